"""Keys in files, for what has no token: curl, openssl, and the proof's control."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import load_der_x509_certificate

from sidecar._proto.meshkey.ca.v1 import ca_pb2, ca_pb2_grpc
from sidecar.core.csr import build_csr
from sidecar.core.spiffe import SpiffeId

_LIFETIME_S = 3600


@dataclass(frozen=True)
class FileCredentials:
    """A private key and its certificate chain, in PEM files."""

    private_value: bytes
    key: Path
    chain: Path

    @classmethod
    def issue(cls, ca_socket: Path, spiffe_id: str, directory: Path, name: str) -> FileCredentials:
        """Makes a key in this process's memory and has the local CA certify it."""
        key = ec.generate_private_key(ec.SECP256R1())
        files = cls(
            private_value=key.private_numbers().private_value.to_bytes(32, "big"),
            key=directory / f"{name}-key.pem",
            chain=directory / f"{name}-chain.pem",
        )
        leaf = _issue(ca_socket, build_csr(SpiffeId.parse(spiffe_id), key))
        files.chain.write_bytes(load_der_x509_certificate(leaf).public_bytes(Encoding.PEM))
        descriptor = os.open(files.key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return files


def _issue(ca_socket: Path, csr: bytes) -> bytes:
    options = [("grpc.default_authority", "localhost")]
    with grpc.insecure_channel(f"unix:{ca_socket}", options=options) as channel:
        stub = ca_pb2_grpc.CertificateAuthorityStub(channel)
        answer = stub.Issue(ca_pb2.IssueRequest(csr=csr, lifetime=_LIFETIME_S), timeout=10)
        return bytes(answer.certificate_chain[0])
