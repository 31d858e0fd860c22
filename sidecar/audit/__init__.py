"""The record of every signature, refusal, key and certificate: chained, sealed, verifiable."""
