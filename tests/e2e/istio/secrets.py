"""A stock Istio proxy's secrets, as its agent hands them over SDS: with the key in them.

They are in files: the proxy follows them as it follows a stream.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.e2e.peers import Files

_SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"


class AgentSecrets:
    """`default` and `ROOTCA` in `directory`, which is made."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700)
        self.directory = directory

    def certify(self, credentials: Files) -> None:
        """From now on this is the workload's certificate, and its key."""
        self._key = credentials.key
        certificate = {
            "certificate_chain": _inline(credentials.chain.read_bytes()),
            "private_key": _inline(credentials.key.read_bytes()),
        }
        self._write("default", {"tls_certificate": certificate})

    @property
    def private_value(self) -> bytes:
        """Of the key that the proxy has, as the curve's private scalar."""
        pem = self._key.read_bytes()
        key = load_pem_private_key(pem, None)
        assert isinstance(key, EllipticCurvePrivateKey)
        return key.private_numbers().private_value.to_bytes(32, "big")

    def trust(self, roots: bytes) -> None:
        """PEM: from now on these are the roots."""
        self._write("ROOTCA", {"validation_context": {"trusted_ca": _inline(roots)}})

    def _write(self, name: str, secret: dict[str, Any]) -> None:
        text = json.dumps({"resources": [{"@type": _SECRET, "name": name, **secret}]})
        new = self.directory / f"{name}.new"
        new.write_text(text, encoding="utf-8")
        new.rename(self.directory / f"{name}.json")


def _inline(pem: bytes) -> dict[str, str]:
    return {"inline_string": pem.decode("ascii")}
