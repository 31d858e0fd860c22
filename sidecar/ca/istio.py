"""Client of Istio's certificate service: istiod, its RA mode, cert-manager's istio-csr."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import grpc.aio

from sidecar._proto.third_party import istio_ca_pb2
from sidecar.ca.istio_answer import NO_SUCH_CA, certificates_in
from sidecar.ca.istio_connection import MAX_ANSWER, IstioConnection
from sidecar.ca.istio_credentials import call_headers, read_token
from sidecar.ca.pem import request_pem
from sidecar.ca.retries import Pacing, retried
from sidecar.errors import AuthorityError, AuthorityUnavailable

# Those after which Istio's own agent asks again (pkg/security/retry.go).
_RETRYABLE = {
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
}
_MAX_DETAIL = 300


class IstioAuthority:
    """`CertificateAuthority` over `istio.v1.auth.IstioCertificateService/CreateCertificate`.

    Files are read anew for each attempt: the kubelet replaces the projected token before it
    expires, and the CA's own root may change. The token is in no message, log or attribute.
    """

    def __init__(
        self,
        address: str,
        *,
        root_file: Path,
        token_file: Path,
        cluster_id: str,
        deadline: timedelta,
        server_name: str | None = None,
        cert_signer: str | None = None,
        headers: Mapping[str, str] | None = None,
        pacing: Pacing | None = None,
    ) -> None:
        """Connects when it is used.

        Args:
            address: host:port of the CA.
            root_file: PEM roots of the CA's own TLS certificate; not trusted for workloads.
            token_file: the projected service account token, of the audience that the CA asks
                for (Istio's default: istio-ca).
            cluster_id: the cluster whose API server the CA asks about the token.
            deadline: for one `sign` in all, further attempts included.
            server_name: the name to expect in the CA's certificate, if not `address`'s host.
            cert_signer: which of its signers istiod's RA mode is to use.
            headers: more gRPC metadata; Istio's agent takes it from CA_HEADER_* variables.
            pacing: time and randomness of further attempts.

        Raises:
            ConfigurationError: `cluster_id` or a header cannot be sent.
        """
        self._address = address
        self._token_file = token_file
        self._headers = call_headers(cluster_id, headers or {})
        self._cert_signer = cert_signer
        self._deadline = deadline
        self._pacing = pacing or Pacing()
        self._connection = IstioConnection(address, root_file, server_name)

    async def sign(self, csr: bytes, lifetime: timedelta) -> Sequence[bytes]:
        """See `CertificateAuthority.sign`; the root, or several, come last.

        Istiod refuses a lifetime above its maximum (90 days unless configured) and istio-csr
        shortens it; the Kubernetes API behind the RA mode refuses less than 10 minutes.
        """
        request = self._request(csr, lifetime).SerializeToString()
        try:
            answer = await retried(
                lambda seconds: self._ask(request, seconds), self._deadline, self._pacing
            )
        except AuthorityUnavailable:
            # What is wrong may be the connection, so the next call gets another one.
            await self._connection.retire()
            raise
        return certificates_in(answer, self._name)

    async def close(self) -> None:
        """Ends the connection. A call that is under way is answered first."""
        await self._connection.retire()

    @property
    def _name(self) -> str:
        return f"Istio CA {self._address}"

    def _request(self, csr: bytes, lifetime: timedelta) -> istio_ca_pb2.CertificateRequest:
        request = istio_ca_pb2.CertificateRequest(
            csr=request_pem(csr).decode("ascii"),
            # Zero would ask for the CA's default, which is longer than what was wished.
            validity_duration=max(1, int(lifetime.total_seconds())),
        )
        if self._cert_signer:
            request.metadata["CertSigner"] = self._cert_signer
        return request

    async def _ask(self, request: bytes, seconds: float) -> bytes:
        """One attempt, of at most so many `seconds`."""
        token = read_token(self._token_file)
        metadata = (("authorization", f"Bearer {token}"), *self._headers)
        try:
            async with self._connection.method() as create_certificate:
                return await create_certificate(request, metadata=metadata, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            code, detail = error.code(), _printable(error.details(), hidden=token)
        # Outside of the except block: gRPC's error holds the detail as the CA sent it.
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            # A connection whose other end is gone without a word looks like this.
            await self._connection.retire()
        raise self._failure(code, detail)

    def _failure(self, code: grpc.StatusCode, detail: str) -> AuthorityError:
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "message larger than max" in detail:
            # gRPC's own words: the answer was not read. The next one would be no smaller.
            return AuthorityError(
                f"{self._name}: its answer is larger than {MAX_ANSWER} bytes; {NO_SUCH_CA}"
            )
        kind = AuthorityUnavailable if code in _RETRYABLE else AuthorityError
        return kind(f"{self._name}: {code.name}: {detail}{_way_out(code, detail)}")


def _printable(detail: str | None, *, hidden: str) -> str:
    """What the other side wrote, fit for a log."""
    text = (detail or "").replace(hidden, "(the token)")[:_MAX_DETAIL]
    return "".join(character if character.isprintable() else " " for character in text)


def _way_out(code: grpc.StatusCode, detail: str) -> str:
    if code is grpc.StatusCode.UNAUTHENTICATED:
        # Istiod and istio-csr tell the reason to their own logs only.
        return (
            "; the CA's log has the reason: compare the token's audience, the cluster ID, and "
            "the SPIFFE ID with the service account and trust domain"
        )
    if any(word in detail for word in ("andshake failed", "Verification Check failed")):
        return (
            "; the root file must hold the root of the CA's own TLS certificate, and that must "
            "name the host or the configured server name"
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "; see whether it is overloaded or cut off, or set a longer ca.deadline"
    if code is grpc.StatusCode.UNAVAILABLE:
        return "; see whether it runs, and compare ca.address"
    return ""
