"""What the kinds of token need of a pod, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sidecar.istio.pods.volumes import Mounted, host_path, secret
from sidecar.istio.values import Token, Values

TOKEN_LABEL = "mesh"  # noqa: S105 # a name, no secret
_LIBRARIES = "/usr/lib/x86_64-linux-gnu/pkcs11"

# The user PIN of a token that is there before the pod: a Secret of each namespace, with one file.
# prepare-pod copies it to where only the sidecar's user reads it.
_PIN = Mounted(secret("meshkey-pin"), "/pod/pin", read_only=True)


@dataclass(frozen=True)
class TokenPod:
    """`settings` go into `[token]`; `setup` are the arguments of `meshkey prepare-pod`.

    `born_with_pod`: the token is made for the pod and ends with it, so that certificates of
    before are worth keeping beside it and no key is ever left behind on it. Otherwise an orderly
    stop must destroy the keys, which it does where there is no state.
    """

    setup: tuple[str, ...]
    born_with_pod: bool
    settings: Mapping[str, str | int] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    devices: Mapping[str, str] = field(default_factory=dict)
    setup_volumes: tuple[Mounted, ...] = ()
    volumes: tuple[Mounted, ...] = ()


_PODS: Mapping[Token, TokenPod] = {
    Token.SOFTHSM2: TokenPod(setup=("--softhsm2", TOKEN_LABEL), born_with_pod=True),
    Token.TPM2: TokenPod(
        setup=("--pin", f"/pod/pin/{TOKEN_LABEL}.pin"),
        born_with_pod=False,
        settings={"module": f"{_LIBRARIES}/libtpm2_pkcs11.so", "threads": 2},
        environment={
            "TPM2_PKCS11_STORE": "/var/lib/meshkey-token",
            "TPM2_PKCS11_TCTI": "device:/dev/tpmrm0",
            "TPM2_PKCS11_BACKEND": "esysdb",
            "TPM2_PKCS11_LOG_LEVEL": "0",
        },
        # /dev/tpmrm0, as the device plugin of Keylime's and Hedgehog's authors advertises it.
        devices={"githedgehog.com/tpmrm": "1"},
        setup_volumes=(_PIN,),
        volumes=(
            Mounted(
                host_path("meshkey-token", "/var/lib/meshkey-token", "Directory"),
                "/var/lib/meshkey-token",
            ),
        ),
    ),
    Token.SGX_CTK: TokenPod(
        setup=("--pin", f"/pod/pin/{TOKEN_LABEL}.pin"),
        born_with_pod=False,
        settings={"module": "/usr/local/lib/libp11sgx.so", "threads": 1},
        # Intel's device plugin. Without its admission webhook the memory alone brings no device.
        # Not sgx.intel.com/provision: that is for who makes quotes, and none is asked for.
        devices={"sgx.intel.com/enclave": "1", "sgx.intel.com/epc": "32Mi"},
        setup_volumes=(_PIN,),
        volumes=(
            # Where the toolkit keeps its tokens, as it is built by default.
            Mounted(
                host_path("meshkey-token", "/var/lib/meshkey-token", "Directory"),
                "/opt/intel/cryptoapitoolkit/tokens",
            ),
            Mounted(
                host_path("meshkey-aesmd", "/var/run/aesmd", "Directory"),
                "/var/run/aesmd",
                read_only=True,
            ),
        ),
    ),
}


def token_pod(values: Values) -> TokenPod:
    """What the mesh's kind of token needs."""
    return _PODS[values.token]


def devices(values: Values) -> Mapping[str, str]:
    """Resources of device plugins that the sidecar's container asks for."""
    return values.devices or token_pod(values).devices
