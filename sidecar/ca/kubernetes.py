"""A signer behind the Kubernetes CertificateSigningRequest API (certificates.k8s.io/v1).

meshkey creates a request and waits; it never approves one. Whoever approves and signs is
somebody else, with permissions of his own.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from datetime import timedelta
from http import HTTPStatus

import structlog

from sidecar.ca.pem import request_pem
from sidecar.ca.signing_request import USAGES, SigningRequest, expiration_seconds
from sidecar.errors import AuthorityError, AuthorityUnavailable
from sidecar.kubernetes.answers import ApiRefusal, ApiUnavailable
from sidecar.kubernetes.certificates import CertificatesApi
from sidecar.kubernetes.connection import KubernetesConnection

log = structlog.get_logger(__name__)

_NAMES = 3
_PAUSE = timedelta(seconds=1)


def _new_name() -> str:
    # Nobody can guess it, so nobody creates it before us. DNS-1123: 28 of 253 characters.
    return f"meshkey-{secrets.token_hex(10)}"


class KubernetesAuthority:
    """`CertificateAuthority` over the signer `signer_name`, which gets `deadline` to answer.

    The API knows no lifetime below ten minutes: a shorter wish is asked for as ten. What was
    created is deleted, however the wait ends.
    """

    def __init__(
        self,
        signer_name: str,
        deadline: timedelta,
        connection: KubernetesConnection,
        *,
        new_name: Callable[[], str] = _new_name,
        timeout: Callable[[float], asyncio.Timeout] = asyncio.timeout,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._signer_name = signer_name
        self._deadline = deadline
        self._connection = connection
        self._new_name = new_name
        self._timeout = timeout
        self._sleep = sleep

    async def sign(self, csr: bytes, lifetime: timedelta) -> Sequence[bytes]:
        try:
            async with self._connection.session() as api:
                errand = _Errand(api, self._signer_name, self._sleep)
                try:
                    async with self._timeout(self._deadline.total_seconds()):
                        await errand.create(self._new_name, csr, lifetime)
                        return await errand.chain()
                except TimeoutError:
                    raise AuthorityUnavailable(errand.overdue(self._deadline)) from None
                finally:
                    await errand.tidy_up()
        except ApiUnavailable as error:
            raise AuthorityUnavailable(f"kubernetes: {error}") from error
        except ApiRefusal as error:
            raise AuthorityError(f"kubernetes: {error}") from error


class _Errand:
    """One request, from its creation to its deletion."""

    def __init__(
        self,
        api: CertificatesApi,
        signer_name: str,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._api = api
        self._signer_name = signer_name
        self._sleep = sleep
        # Of what may exist: set before it is asked for, because its answer may be lost.
        self._name = ""
        self._uid: str | None = None
        self._seen: SigningRequest | None = None
        self._approved = False
        self._trouble: ApiUnavailable | None = None

    async def create(self, new_name: Callable[[], str], csr: bytes, lifetime: timedelta) -> None:
        for _ in range(_NAMES):
            self._name = new_name()
            try:
                document = await self._api.create_request(
                    self._name,
                    signer_name=self._signer_name,
                    request=request_pem(csr),
                    usages=USAGES,
                    expiration_seconds=expiration_seconds(lifetime),
                )
            except ApiRefusal as error:
                name, self._name = self._name, ""  # nothing was created, or it is another's
                if error.status != HTTPStatus.CONFLICT:
                    raise
                log.warning("name of a signing request is taken", name=name)
                continue
            self._seen = SigningRequest.parse(document)
            self._uid = self._seen.uid
            return
        raise AuthorityUnavailable(f"kubernetes: {_NAMES} names for the request are all taken")

    async def chain(self) -> Sequence[bytes]:
        """Waits for certificates, through whatever passes by itself."""
        while True:
            pause = _PAUSE
            try:
                async with aclosing(self._states()) as states:
                    async for state in states:
                        if chain := state.chain(self._name, self._signer_name):
                            return chain
            except ApiUnavailable as error:
                pause = error.retry_after or pause
                self._note(error)
            except ApiRefusal as error:
                if error.status == HTTPStatus.NOT_FOUND:
                    raise self._deleted() from error
                if error.status != HTTPStatus.GONE:
                    raise
            # The watch is over. What is the case now is asked for, whatever was missed.
            self._seen = None
            await self._sleep(pause.total_seconds())

    async def _states(self) -> AsyncGenerator[SigningRequest, None]:
        """The request as it is, and after each change; until the watch ends."""
        state = self._seen
        if state is None:
            state = self._look(SigningRequest.parse(await self._api.read_request(self._name)))
        yield state
        async with aclosing(self._api.watch_request(self._name, state.version)) as events:
            async for event in events:
                if event.kind == "DELETED":
                    raise self._deleted()
                if event.kind in {"ADDED", "MODIFIED"}:
                    yield self._look(SigningRequest.parse(event.document))

    def _look(self, state: SigningRequest) -> SigningRequest:
        if state.uid != self._uid:
            raise self._deleted()  # and somebody created another one with its name
        self._approved = "Approved" in state.verdicts
        return state

    def _deleted(self) -> AuthorityUnavailable:
        # No refusal: that is what Denied and Failed are for. Kubernetes itself deletes requests
        # that nobody approved in time, and the next one may well be signed.
        return AuthorityUnavailable(
            f"kubernetes: {self._name} was deleted before it was signed, by the cluster's cleaner "
            "of old requests or by hand; the next attempt creates a new one"
        )

    def _note(self, error: ApiUnavailable) -> None:
        if self._trouble is None:
            log.warning(
                "waiting for a certificate goes on in spite of the API server",
                name=self._name,
                reason=str(error),
            )
        self._trouble = error

    def overdue(self, deadline: timedelta) -> str:
        """What to do, when the deadline has passed."""
        limit = f"within {deadline.total_seconds():g} s"
        if self._uid is None:
            return f"kubernetes: the API server did not create a request {limit}"
        trouble = f"; the API server: {self._trouble}" if self._trouble else ""
        if self._approved:
            return (
                f"kubernetes: {self._name} was approved but not signed {limit}: is there a "
                f'signer "{self._signer_name}", and does it run?{trouble}'
            )
        return (
            f"kubernetes: nobody approved {self._name} {limit}: run an approver for the signer "
            f'"{self._signer_name}", or set a deadline in which somebody can say '
            f"kubectl certificate approve{trouble}"
        )

    async def tidy_up(self) -> None:
        """Deletes what was created, if that is allowed."""
        if not self._name:
            return
        try:
            await self._api.delete_request(self._name, self._uid)
        except (ApiUnavailable, ApiRefusal) as error:
            gone = isinstance(error, ApiRefusal) and error.status == HTTPStatus.NOT_FOUND
            # Without a uid it is not known that there was anything to delete.
            if self._uid and not gone:
                log.info("signing request stays behind", name=self._name, reason=str(error))
