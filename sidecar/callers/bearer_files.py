"""Keeps what tokens are verified with as the files say now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

import structlog

from sidecar import whole_file
from sidecar.callers.bearer import BearerToken, Wanted, verified
from sidecar.callers.key_set import VerificationKey, parse_key_set
from sidecar.errors import CallerRefused, ConfigurationError
from sidecar.one_thread import OneThread

log = structlog.get_logger(__name__)

INTERVAL = timedelta(seconds=1)
# A file that does not come back in that time cannot be read.
_PATIENCE = timedelta(seconds=5)
_MOST_BYTES = 4 << 20
# Good tokens that are remembered: as many callers at once.
_REMEMBERED = 1024


class BearerTokens:
    """`Bearers`: verifies tokens. Use it from the event loop; a thread reads the files.

    Keys stay as they were while their file cannot be read: they are still the issuer's. With
    the list of revoked tokens unreadable no token is good, as any could be on it.
    """

    def __init__(
        self, jwks: Path, revoked: Path | None, wanted: Wanted, now: Callable[[], datetime]
    ) -> None:
        self._key_file = _File("bearer.jwks", jwks)
        self._list = _File("bearer.revoked", revoked) if revoked else None
        self._wanted = wanted
        self._now = now
        self._document = b""
        self._keys: Mapping[str, VerificationKey] = {}
        self._revoked: frozenset[bytes] | None = None
        # By the hash of the text: tokens themselves are kept nowhere.
        self._good: dict[bytes, BearerToken] = {}

    async def begin(self) -> None:
        """Reads the files for the first time.

        Raises:
            ConfigurationError: one of them is not to be used.
        """
        await self.look()
        for file in filter(None, (self._key_file, self._list)):
            if file.error:
                raise ConfigurationError(f"{file.setting}: {file.error}")

    async def run(self) -> None:
        """Looks at the files again and again."""
        while True:
            await asyncio.sleep(INTERVAL.total_seconds())
            await self.look()

    async def look(self) -> None:
        """Takes up what the files have now, and logs which one is not to be used."""
        await asyncio.gather(self._look_at_keys(), self._look_at_list())

    def subject(self, token: str) -> str:
        """Whose token it is, if it is good now."""
        digest = sha256(token.encode("utf-8", "surrogatepass")).digest()
        found = self._good.get(digest) or verified(token, self._keys, self._wanted)
        found.require_current(self._now())
        if self._revoked is None:
            raise CallerRefused("bearer.revoked cannot be read, and any token could be on it")
        if (found.id or "").encode() in self._revoked:
            raise CallerRefused("its token was revoked")
        self._remember(digest, found)
        return found.subject

    def _remember(self, digest: bytes, token: BearerToken) -> None:
        if digest not in self._good and len(self._good) >= _REMEMBERED:
            del self._good[next(iter(self._good))]
        self._good[digest] = token

    async def _look_at_keys(self) -> None:
        await self._key_file.take_up(self._take_keys)

    async def _look_at_list(self) -> None:
        if self._list is None:
            self._revoked = frozenset()
        elif not await self._list.take_up(self._take_revoked):
            self._revoked = None

    def _take_keys(self, document: bytes) -> None:
        if document == self._document:
            return
        self._keys = parse_key_set(document)
        self._document = document
        # The key of some of them may be gone.
        self._good.clear()
        log.info("bearer keys read", keys=len(self._keys))

    def _take_revoked(self, content: bytes) -> None:
        self._revoked = frozenset(content.split())


class _File:
    """One of the files, read on a thread of its own; what is wrong with it is logged once."""

    def __init__(self, setting: str, path: Path) -> None:
        self.setting = setting
        self.error = ""
        self._path = path
        self._disk = OneThread(_PATIENCE)

    async def take_up(self, take: Callable[[bytes], None]) -> bool:
        """Whether it could be read, and `take` raised no `ValueError` for its content."""
        error = await self._tried(take)
        if error and error != self.error:
            log.error("bearer file not usable", setting=self.setting, error=error)
        self.error = error
        return not error

    async def _tried(self, take: Callable[[bytes], None]) -> str:
        """What is wrong, or nothing."""
        try:
            take(await self._disk.run(self._read))
        except TimeoutError:
            return f"file {self._path} does not come back from the disk"
        except OSError as error:
            return f"file {self._path} cannot be read: {error.strerror}"
        except ValueError as error:
            return f"file {self._path} cannot be used: {error}"
        return ""

    def _read(self) -> bytes:
        content = whole_file.read(self._path, _MOST_BYTES)
        if len(content) > _MOST_BYTES:
            raise ValueError(f"it is larger than {_MOST_BYTES} bytes")
        return content
