"""The proof: a key's private value is nowhere in an Envoy that signs with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sidecar.demo.envoy import Envoy
from sidecar.demo.sidecars import Served
from sidecar.demo.softhsm import SoftHsmStore
from sidecar.errors import MeshkeyError
from sidecar.proof.memory import Scan, scan
from sidecar.proof.needles import Needle, needles
from sidecar.proof.softhsm2 import private_value, token_directory

_TRIES = 3


class ProofFailed(MeshkeyError):
    """A key was found in an Envoy's memory, or the scan cannot be relied on."""


@dataclass(frozen=True)
class Proof:
    """What was searched, and what the control showed."""

    keys: int
    processes: int
    octets: int
    control_hits: int

    def __str__(self) -> str:
        return (
            f"{self.keys} keys searched in {self.processes} Envoys, "
            f"{self.octets / 2**20:.0f} MiB: no hit; "
            f"the same scan finds a key that Envoy holds {self.control_hits} times"
        )


def learn_values(store: SoftHsmStore, sidecar: Served) -> dict[str, bytes]:
    """The private value of the sidecar's current key, decrypted from the token's file.

    Whoever has the store and the PIN can do this; the proxy has neither.
    """
    pin = (store.directory / "mesh.pin").read_text(encoding="utf-8")
    key_id = sidecar.status().identities[0].key_id
    directory = token_directory(store.tokens, "mesh")
    return {f"{sidecar.name} {key_id.hex()}": private_value(directory, pin, key_id)}


def prove(
    envoys: list[Envoy], values: Mapping[str, bytes], control: Envoy, control_value: bytes
) -> Proof:
    """Searches each Envoy for each value, and the control for the one that it must have.

    Raises:
        ProofFailed: a value was found, or the control's was not.
        MemoryUnreadable: an Envoy's memory cannot be read, so nothing was proven.
    """
    found = scan(control.pid, needles(control_value))
    if not found.hits:
        raise ProofFailed("the scan did not find the key that Envoy was given: it proves nothing")
    wanted = [
        Needle(f"key {name}, {needle.name}", needle.octets)
        for name, value in values.items()
        for needle in needles(value)
    ]
    octets = 0
    for envoy in envoys:
        result = _whole(envoy, wanted)
        octets += result.octets_scanned
        if result.hits:
            hit = result.hits[0]
            raise ProofFailed(f"{hit.needle}: at 0x{hit.address:x} of {envoy.name}, {hit.mapping}")
    return Proof(len(values), len(envoys), octets, len(found.hits))


def _whole(envoy: Envoy, wanted: list[Needle]) -> Scan:
    """A search that saw everything: a running process may give memory back meanwhile."""
    for _ in range(_TRIES):
        result = scan(envoy.pid, wanted)
        if result.hits or not result.octets_unreadable:
            return result
    raise ProofFailed(
        f"{envoy.name}: {result.octets_unreadable} octets of its memory could not be read: "
        "what is there is not known"
    )
