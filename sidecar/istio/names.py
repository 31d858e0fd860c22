"""Names that the pods, the patches and the checks have in common."""

from __future__ import annotations

# Our injection templates set it; every EnvoyFilter selects by it. So a pod gets the filters
# exactly if it got the sidecar.
SIGNER_LABEL = {"meshkey.io/signer": "enabled"}

# istio-iptables lets traffic of this group pass: the sidecar reaches its CA past the proxy.
PROXY_USER = 1337
PROXY_GROUP = 1337
SIGNER_USER = 1338

SIGNER_SOCKET = "/run/meshkey/signer.sock"
ADMIN_SOCKET = "/run/meshkey-admin/admin.sock"

# The istio-agent's directory, and a name that is not its default: under the default name it
# would serve keys of its own when ours is late.
SDS_DIRECTORY = "/var/run/secrets/workload-spiffe-uds"
SDS_SOCKET_FILE = "meshkey.sock"

MODULE_DIRECTORY = "/usr/lib/meshkey"
# A memory volume of the proxy's own, in the built-in templates.
WAKER_SOCKET = "/etc/istio/proxy/meshkey-waker.sock"

CONFIG_MAP = "meshkey"
PEERS_CONFIG_MAP = "meshkey-peers"
PEERS_DIRECTORY = "/etc/meshkey-peers"
PEERS_FILE = f"{PEERS_DIRECTORY}/peers.json"

TRANSPORT_SOCKET = "envoy.transport_sockets.dynamic_modules"
