"""Secrets for Envoy over its secret discovery service: chains and roots, never a key."""
