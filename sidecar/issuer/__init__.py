"""Signs CSRs with a CA key that is in a token too."""
