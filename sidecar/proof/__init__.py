"""Proves that a key's private value is nowhere in a process's memory."""
