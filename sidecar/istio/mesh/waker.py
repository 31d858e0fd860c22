"""The listener through which finished handshakes wake their worker: one for each proxy."""

from __future__ import annotations

from sidecar.istio.mesh.envoy_filter import Context, Operation, patch
from sidecar.istio.mesh.module import Json, network_filter, struct
from sidecar.istio.names import WAKER_SOCKET

_MODE = 0o600


def waker(context: Context) -> Json:
    """A patch that adds it.

    Args:
        context: `INBOUND` or `GATEWAY`, which a proxy's listeners pass once.
    """
    listener = {
        "name": "meshkey_waker",
        "address": {"pipe": {"path": WAKER_SOCKET, "mode": _MODE}},
        # One connection for each worker.
        "connection_balance_config": {"exact_balance": {}},
        "filter_chains": [
            {
                "filters": [
                    network_filter(
                        "meshkey_waker",
                        terminal_filter=True,
                        filter_config=struct({"socket": WAKER_SOCKET}),
                    )
                ]
            }
        ],
    }
    return patch("LISTENER", context, {}, Operation.ADD, listener)
