"""Runs a process: from settings to its end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack

import structlog

from sidecar.app.audit import start_audit
from sidecar.app.callers import require_rules
from sidecar.app.issuer import start_issuer
from sidecar.app.parts import Parts
from sidecar.app.sidecar import start_sidecar
from sidecar.app.start import prepare
from sidecar.config.settings import Settings
from sidecar.errors import ConfigurationError

log = structlog.get_logger(__name__)


async def serve(settings: Settings, read: Callable[[], Settings]) -> None:
    """Runs what the settings name until SIGTERM or SIGINT; SIGHUP has it `read` them again.

    Raises:
        ConfigurationError: the settings name nothing to run, or two things that must not
            share a process.
        MeshkeyError: the start failed.
    """
    _check_role(settings)
    prepare(settings)
    stopped = asyncio.Event()
    async with AsyncExitStack() as stack:
        parts = Parts(settings, read, stack)
        # Not before: a module that hangs while it is opened would keep the signals waiting.
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        running = await start_audit(parts)
        if settings.issuer:
            await start_issuer(parts, settings.issuer)
        else:
            running += await start_sidecar(parts)
        _reload_on_hangup(parts)
        log.info("ready")
        await _first_of(stopped.wait(), *running)
        log.info("stopping")


def _reload_on_hangup(parts: Parts) -> None:
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[None]] = set()

    def begin() -> None:
        task = loop.create_task(parts.reload.on_signal())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, begin)


def _check_role(settings: Settings) -> None:
    if settings.identities and settings.issuer:
        raise ConfigurationError(
            "[identity] and [issuer] need a process each: a sidecar must not mint identities"
        )
    if not settings.identities and not settings.issuer:
        raise ConfigurationError(
            "nothing to serve: add a section [identity], [gateway.NAME] or [issuer]"
        )
    if settings.identities and not (settings.authorities and settings.signer):
        section = "identity" if settings.identity else f"gateway.{next(iter(settings.gateways))}"
        raise ConfigurationError(f"[{section}] needs the sections [ca] and [signer]")
    if settings.identities:
        require_rules(settings)


async def _first_of(*waits: object) -> None:
    """Waits for the first to end, and raises what it raised: a part that dies stops the rest."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]  # type: ignore[call-overload]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
