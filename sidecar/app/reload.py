"""A running process takes over its configuration as it is now: all that differs, or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from sidecar import telemetry
from sidecar.admin.base import Reloaded
from sidecar.config.differences import differences
from sidecar.config.digest import digest
from sidecar.config.settings import Settings
from sidecar.core.journal import Journal
from sidecar.errors import ConfigurationError, MeshkeyError, ReloadRefused
from sidecar.signer.quota import Quota

log = structlog.get_logger(__name__)


class Reloadable(Protocol):
    """A part of the process that takes other settings while it runs."""

    # As `differences` names them. The name of a section stands for all that is in it.
    takes: frozenset[str]

    def prepare(self, settings: Settings) -> Callable[[], None]:
        """Looks whether they can apply; what it returns lets them, on the loop, and never fails.

        Every part is asked at each reload, also when its settings are the same: files that
        they name may have changed. Blocks.

        Raises:
            ConfigurationError: they cannot. Nothing has changed.
        """
        ...


class Reload:
    """Knows which settings apply, and who takes others. `Reloads` of the admin API."""

    def __init__(
        self, settings: Settings, read: Callable[[], Settings], journal: Callable[[], Journal]
    ) -> None:
        """`read` reads the configuration again; it blocks, and raises `ConfigurationError`."""
        self._settings = settings
        self._read = read
        self._journal = journal
        self._parts: list[Reloadable] = [LogLevel()]
        self._one_at_a_time = asyncio.Lock()

    def register(self, part: Reloadable) -> None:
        """From here on `part` is asked, too."""
        self._parts.append(part)

    async def reload(self) -> Reloaded:
        """Applies all that differs, or nothing.

        Raises:
            ReloadRefused: the configuration is wrong, or something that differs needs a restart.
        """
        async with self._one_at_a_time:
            try:
                return await self._reload()
            except MeshkeyError as error:
                log.error("configuration not reloaded", error=str(error))
                self._journal().record("configuration not reloaded", error=str(error))
                raise

    async def on_signal(self) -> None:
        """The same for who cannot be answered: the log says what came of it."""
        try:
            await self.reload()
        except MeshkeyError:
            return  # logged

    async def _reload(self) -> Reloaded:
        try:
            settings = await asyncio.to_thread(self._read)
        except ConfigurationError as error:
            raise ReloadRefused(f"{error}; nothing changed") from error
        changed = differences(self._settings, settings)
        self._require_taken(changed)
        try:
            apply = [await asyncio.to_thread(part.prepare, settings) for part in self._parts]
        except ConfigurationError as error:
            raise ReloadRefused(f"{error}; nothing changed") from error
        for each in apply:
            each()
        self._settings = settings
        reloaded = Reloaded(tuple(changed), digest(settings))
        log.warning("configuration reloaded", changed=changed)
        self._journal().record(
            "configuration reloaded", changed=changed, configuration_sha256=reloaded.digest
        )
        return reloaded

    def _require_taken(self, changed: Sequence[str]) -> None:
        taken = frozenset().union(*(part.takes for part in self._parts))
        left = [name for name in changed if not _covers(taken, name)]
        if left:
            raise ReloadRefused(
                f"{', '.join(left)}: needs a restart; nothing changed. Without one apply: "
                f"{', '.join(sorted(taken))}"
            )


class LogLevel:
    """`Reloadable`."""

    takes = frozenset({"log.level"})

    def prepare(self, settings: Settings) -> Callable[[], None]:
        return lambda: telemetry.use_level(settings.log.level)


class Rates:
    """`Reloadable`: what callers and keys may have in a second."""

    takes = frozenset({"signer.caller_rate", "signer.key_rate"})

    def __init__(self, quota: Quota) -> None:
        self._quota = quota

    def prepare(self, settings: Settings) -> Callable[[], None]:
        signer = settings.signer
        assert signer  # it was there, and to take it away needs a restart
        return lambda: self._quota.change(signer.caller_rate, signer.key_rate)


def _covers(taken: frozenset[str], name: str) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in taken)
