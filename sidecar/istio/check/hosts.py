"""Names of services."""

from __future__ import annotations


def full(host: str, namespace: str) -> str:
    """A short name is one of the object's own namespace."""
    return f"{host}.{namespace}.svc.cluster.local" if host and "." not in host else host


def covers(pattern: str, host: str) -> bool:
    """Whether `host` is one that `pattern`, perhaps with a leading *, stands for."""
    if pattern.startswith("*"):
        return host.endswith(pattern[1:])
    return bool(pattern) and pattern == host
