"""A certificate authority that no network reaches: files that somebody carries to it and back."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from enum import Enum
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.serialization import Encoding

from sidecar import whole_file
from sidecar.ca.pem import MAX_CHAIN, parse_chain, request_pem
from sidecar.core.csr import parse_csr
from sidecar.core.public_key import PublicKey
from sidecar.core.unreadable import UNREADABLE
from sidecar.errors import AuthorityError, AuthorityUnavailable, ConfigurationError, CsrRefused
from sidecar.one_thread import OneThread

log = structlog.get_logger(__name__)

_POLL_S = 1.0
_PATIENCE = timedelta(seconds=10)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


class _NotYet(Enum):
    """Why a file is not the answer; it may become it."""

    ABSENT = "there is no such file"
    UNREADABLE = "it cannot be read: check who owns it, and its mode"
    INCOMPLETE = "it is no complete PEM chain: empty, half written, or something else"
    HANGS = "its directory does not answer: a network mount, or a medium, that is gone"
    OTHER_KEY = "its first certificate is for another key: an older request's, or not leaf first"


class FileAuthority:
    """`CertificateAuthority` in `directory`: `<name>.csr` goes out, `<name>.pem` comes back.

    Only one process may use a name in a directory.
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        deadline: timedelta,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        patience: timedelta = _PATIENCE,
    ) -> None:
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"{name!r} is no name for a request's file: letters, digits and ._- may be in it"
            )
        self._request = directory / f"{name}.csr"
        self._answer = directory / f"{name}.pem"
        self._deadline = deadline
        self._clock = clock
        self._sleep = sleep
        self._medium = OneThread(patience)

    async def sign(self, csr: bytes, lifetime: timedelta) -> Sequence[bytes]:
        """As in the seam. The `lifetime` is only told to whoever signs, in the log.

        The request stays where it is when the wait ends without an answer: somebody may be at
        work on it. The next request replaces it.
        """
        try:
            public_key = parse_csr(csr).public_key
        except CsrRefused as error:
            raise AuthorityError(f"file CA: {error}") from error
        end = self._clock() + self._deadline.total_seconds()
        try:
            await self._medium.run(lambda: _publish(self._request, request_pem(csr)))
        except TimeoutError:
            raise AuthorityUnavailable(
                f"file CA: {self._request} cannot be written: {_NotYet.HANGS.value}"
            ) from None
        log.info(
            "sign the request, and put the chain, leaf first, where it is awaited",
            request=str(self._request),
            chain=str(self._answer),
            lifetime_s=int(lifetime.total_seconds()),
            deadline_s=int(self._deadline.total_seconds()),
        )
        chain = await self._wait(public_key, end)
        with suppress(TimeoutError):  # then the next request replaces it
            await self._medium.run(lambda: _remove(self._request))
        return chain

    async def _wait(self, public_key: PublicKey, end: float) -> Sequence[bytes]:
        told: set[_NotYet] = set()
        while True:
            seen = await self._look(public_key)
            if not isinstance(seen, _NotYet):
                return seen
            if seen not in told:
                told.add(seen)
                log.info("no chain yet", chain=str(self._answer), because=seen.value)
            if self._clock() >= end:
                raise AuthorityUnavailable(
                    f"file CA: no chain within {self._deadline.total_seconds():g} s; sign "
                    f"{self._request} and put the chain, leaf first, into {self._answer}: "
                    f"{seen.value}"
                )
            await self._sleep(_POLL_S)

    async def _look(self, public_key: PublicKey) -> Sequence[bytes] | _NotYet:
        try:
            return await self._medium.run(lambda: _look(self._answer, public_key))
        except TimeoutError:
            return _NotYet.HANGS


def _publish(file: Path, content: bytes) -> None:
    try:
        # A symbolic link in the place of `file` is replaced too. Whoever signs must read it.
        whole_file.replace(file, content, 0o644)
    except OSError as error:
        raise AuthorityError(
            f"file CA: {file} cannot be written: {error.strerror}; {file.parent} must be a "
            f"directory that user {os.geteuid()} may write to"
        ) from error


def _remove(file: Path) -> None:
    try:
        file.unlink()
    except OSError as error:
        # Whoever moved it away, or took the medium out, does no harm.
        log.debug("file is not there to be removed", file=str(file), reason=error.strerror)


def _look(file: Path, public_key: PublicKey) -> Sequence[bytes] | _NotYet:
    """The chain in `file` for `public_key`, in DER.

    Raises:
        AuthorityError: it is too large to be one.
    """
    try:
        pem = whole_file.read(file, MAX_CHAIN)
    except FileNotFoundError:
        return _NotYet.ABSENT
    except OSError:
        return _NotYet.UNREADABLE
    if len(pem) > MAX_CHAIN:
        raise AuthorityError(
            f"file CA: {file} is larger than 1 MiB, no chain is; put the chain alone there"
        )
    chain = parse_chain(pem)
    if not chain:
        return _NotYet.INCOMPLETE
    try:
        fits = chain[0].public_key() == public_key
    except UNREADABLE:
        fits = False
    if not fits:
        return _NotYet.OTHER_KEY
    return [certificate.public_bytes(Encoding.DER) for certificate in chain]
