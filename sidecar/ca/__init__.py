"""Clients of certificate authorities."""
