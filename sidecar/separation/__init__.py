"""Callers apart from what is the sidecar's: users, the sockets' directories, secrets' places."""
