"""The seam to the PKCS#11 token. Synchronous: every call here may block."""
