"""Istio: what is installed, injected and patched, all written from one set of values."""
