"""What subscribers of an identity get to see."""

from __future__ import annotations

import grpc
from cryptography import x509

from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar._proto.meshkey.signer.v1 import signer_pb2_grpc
from sidecar.demo.processes import wait_for
from sidecar.demo.sidecars import Sidecar


def leaf_of(sidecar: Sidecar) -> x509.Certificate:
    """The certificate in use."""
    options = [("grpc.default_authority", "localhost")]
    with grpc.insecure_channel(f"unix:{sidecar.proxy}", options=options) as channel:
        updates = signer_pb2_grpc.SignerStub(channel).WatchIdentity(iter([pb.WatchRequest()]))
        update = next(updates)
        updates.cancel()
    return x509.load_der_x509_certificate(update.certificate_chain[0])


def rotate(sidecar: Sidecar) -> None:
    """A new key and certificate; returns when every subscriber has acknowledged them."""
    generation = sidecar.rotate()

    def acknowledged() -> bool:
        (identity,) = sidecar.status().identities
        acked = [subscriber.acked_generation for subscriber in identity.subscribers]
        return bool(acked) and min(acked) >= generation

    wait_for(acknowledged, f"generation {generation} is in use")
