"""meshkey's sidecar: keys in a PKCS#11 token, signatures for a stock Envoy."""

__version__ = "0.1.0"
