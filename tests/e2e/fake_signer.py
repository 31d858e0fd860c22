"""A signer that serves signer.proto from keys in memory, honest or not."""

from __future__ import annotations

import threading
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

KEY_ID = b"fake"
# Each caller holds two streams open.
_THREADS = 16


class FakeSigner(signer_pb2_grpc.SignerServicer):
    """Hands out `chain` and signs with `key`, which may be any key.

    With `together` it answers only when so many requests wait at once, the first time;
    `most_waiting` tells how many ever did. What is published later replaces what was before;
    `acknowledged` are the generations that callers have taken, `refused` those that they have not.
    With a `token` it wants that of its callers; `streams` counts what was opened.
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
        token: str = "",
        signs: bool = True,
    ) -> None:
        self.socket = socket
        self.most_waiting = 0
        self.acknowledged: list[int] = []
        self.refused: list[str] = []
        self.streams = 0
        self._token = token
        self._signs = signs
        self._turned_away = 0
        self._key = key
        self._together = together
        self._published = threading.Condition()
        self._update = pb.IdentityUpdate(
            generation=1,
            key_id=KEY_ID,
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
        self._whole = self._update
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

    def withdraw(self) -> None:
        """The identity was deprovisioned."""
        self._publish(pb.IdentityUpdate(withdrawn=True))

    def publish(
        self,
        *,
        key_id: bytes = KEY_ID,
        revoked: Sequence[bytes] = (),
        denied: pb.DeniedPeers | None = None,
    ) -> None:
        """The identity, whole; it is back if it was withdrawn."""
        update = pb.IdentityUpdate()
        update.CopyFrom(self._whole)
        update.key_id = key_id
        update.revoked_key_ids.extend(revoked)
        if denied:
            update.denied_peers.CopyFrom(denied)
        self._publish(update)

    def demand(self, token: str) -> None:
        """From now on; streams that were opened with another one end."""
        with self._published:
            self._token = token
            self._published.notify_all()

    def _publish(self, update: pb.IdentityUpdate) -> None:
        with self._published:
            update.generation = self._update.generation + 1
            self._update = update
            self._published.notify_all()

    def WatchIdentity(  # noqa: N802  # gRPC names the methods
        self, requests: Iterator[pb.WatchRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.IdentityUpdate]:
        threading.Thread(target=self._hear, args=(requests,), daemon=True).start()
        context.add_callback(self._look_again)
        self.streams += 1
        sent = 0
        while context.is_active():
            self._admit(context)
            with self._published:
                if self._update.generation == sent and self._admitted(context):
                    self._published.wait()
                    continue
                update = self._update
            sent = update.generation
            yield update

    def _admit(self, context: grpc.ServicerContext) -> None:
        if not self._admitted(context):
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "no valid token")

    def _admitted(self, context: grpc.ServicerContext) -> bool:
        presented = dict(context.invocation_metadata()).get("authorization", "")
        return not self._token or presented == f"Bearer {self._token}"

    def _look_again(self) -> None:
        with self._published:
            self._published.notify_all()

    def _hear(self, requests: Iterator[pb.WatchRequest]) -> None:
        try:
            for request in requests:
                if request.error:
                    self.refused.append(request.error)
                elif request.acked_generation:
                    self.acknowledged.append(request.acked_generation)
                self._look_again()
        except grpc.RpcError:
            pass  # the caller has gone

    def SignStream(  # noqa: N802  # see above
        self, messages: Iterator[pb.SignRequests], context: grpc.ServicerContext
    ) -> Iterator[pb.SignResponses]:
        self._admit(context)
        if not self._signs:
            # Not before the caller has its identity.
            self._turned_away += 1
            with self._published:
                self._published.wait_for(lambda: len(self.acknowledged) >= self._turned_away)
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "no purpose is allowed")
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
