"""A signer that serves signer.proto from keys in memory, honest or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar._proto.meshkey.signer.v1 import signer_pb2_grpc
from sidecar.core.schemes import SignatureScheme
from sidecar.rpc.sockets import ALLOW_PINGS

_KEY_ID = b"fake"
# Each caller holds two streams open.
_THREADS = 16


class FakeSigner(signer_pb2_grpc.SignerServicer):
    """Hands out `chain` and signs with `key`, which may be any key.

    With `together` it answers only when so many requests wait at once, the first time;
    `most_waiting` tells how many ever did.
    """

    def __init__(
        self,
        socket: Path,
        chain: Sequence[x509.Certificate],
        key: ec.EllipticCurvePrivateKey,
        bundles: Mapping[str, Sequence[bytes]],
        *,
        spiffe_id: str,
        together: int = 1,
    ) -> None:
        self.socket = socket
        self.most_waiting = 0
        self._key = key
        self._together = together
        self._update = pb.IdentityUpdate(
            generation=1,
            key_id=_KEY_ID,
            spiffe_id=spiffe_id,
            certificate_chain=[_der(certificate) for certificate in chain],
            trust_bundles=[
                pb.TrustBundle(trust_domain=domain, roots=roots)
                for domain, roots in bundles.items()
            ],
            schemes=[SignatureScheme.ECDSA_SECP256R1_SHA256],
            not_before=int(chain[0].not_valid_before_utc.timestamp()),
            not_after=int(chain[0].not_valid_after_utc.timestamp()),
        )
        self._server = grpc.server(ThreadPoolExecutor(_THREADS), options=ALLOW_PINGS)
        signer_pb2_grpc.add_SignerServicer_to_server(self, self._server)
        self._server.add_insecure_port(f"unix:{socket}")

    def __enter__(self) -> FakeSigner:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stop(None).wait()

    def WatchIdentity(  # noqa: N802  # gRPC names the methods
        self, requests: Iterator[pb.WatchRequest], _context: grpc.ServicerContext
    ) -> Iterator[pb.IdentityUpdate]:
        yield self._update
        for _ in requests:
            pass

    def SignStream(  # noqa: N802  # see above
        self, messages: Iterator[pb.SignRequests], _context: grpc.ServicerContext
    ) -> Iterator[pb.SignResponses]:
        waiting: list[pb.SignRequest] = []
        for message in messages:
            waiting.extend(message.requests)
            self.most_waiting = max(self.most_waiting, len(waiting))
            if len(waiting) >= self._together:
                self._together = 1
                yield pb.SignResponses(responses=map(self._signed, waiting))
                waiting.clear()

    def _signed(self, request: pb.SignRequest) -> pb.SignResponse:
        signature = self._key.sign(request.message, ec.ECDSA(hashes.SHA256()))
        return pb.SignResponse(request_id=request.request_id, signature=signature)


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)
