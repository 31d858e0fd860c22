"""The certificates API of a Kubernetes cluster, for whatever asks it for something.

Only what is configured for Kubernetes imports this package: the official client is an extra.
"""

from __future__ import annotations

from sidecar.errors import ConfigurationError

try:
    import kubernetes.aio  # noqa: F401  # here, so that its absence is told once and clearly
except ImportError as error:
    raise ConfigurationError(
        "the Kubernetes client is not installed: "
        "install meshkey with `make runtime EXTRA=kubernetes`"
    ) from error
