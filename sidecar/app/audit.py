"""Assembles the audit log."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass

import structlog
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sidecar import __version__
from sidecar.app.clock import wall
from sidecar.app.parts import Parts
from sidecar.audit.files import LogDirectory
from sidecar.audit.log import AuditLog
from sidecar.audit.recovery import Recovered, recover
from sidecar.audit.seal import key_hash
from sidecar.audit.sealing import Interval, Sealer, find_audit_key, make_audit_key
from sidecar.audit.writer import Rotation, Writer
from sidecar.config.digest import digest
from sidecar.config.settings import AuditSettings, Settings
from sidecar.core.key_label import AUDIT, owner_of
from sidecar.core.public_key import PublicKey
from sidecar.errors import ConfigurationError, StartFailed
from sidecar.token.base import Token, TokenKey

log = structlog.get_logger(__name__)


async def start_audit(parts: Parts) -> list[asyncio.Task[None]]:
    """Records from here to the end, where that is configured; the task ends only with a bug.

    Raises:
        ConfigurationError: the directory is not to be used.
        StartFailed: what is there was damaged or cannot be read.
        AuditUnavailable: nothing can be written, and `strict` is set.
    """
    settings = parts.settings.audit
    if settings is None:
        log.info("nothing is audited: there is no section [audit]")
        return []
    directory = LogDirectory(settings.directory)
    parts.stack.callback(directory.close)
    recovered = await _recovered(settings)
    key, born = await parts.executor.run(lambda: _key(parts.token, audit_owner(parts.settings)))
    audit = AuditLog(strict=settings.strict, counts=parts.audit_counts, link=recovered.link)
    writer = Writer(
        directory,
        recovered.link,
        [torn.facts() for torn in recovered.torn],
        Rotation(settings.rotate_size.bytes, settings.rotate_age.total_seconds()),
        settings.anchor,
        audit,
        wall,
    )
    audit.begin(writer)
    writer.start()
    interval = Interval(settings.seal_records, settings.seal_interval)
    sealer = Sealer(
        audit, parts.token, parts.executor, key, interval, recovered.sealed, recovered.last_seal
    )
    sealing = asyncio.create_task(sealer.run())
    parts.stack.push_async_callback(_Running(audit, writer, sealer, sealing).stop)
    parts.audit = audit
    if born:
        audit.record("audit key born", key_id=str(key.id), audit_key=key_hash(key.public_key))
    _record_start(audit, parts.settings, key, recovered)
    await audit.flush()
    audit.require_room()
    log.info("auditing", directory=str(settings.directory), audit_key=key_hash(key.public_key))
    return [sealing]


def audit_owner(settings: Settings) -> str:
    """The mark of its audit key: one for each host, or instance, and directory.

    Raises:
        ConfigurationError: no audit log is configured.
    """
    if settings.audit is None:
        raise ConfigurationError("there is no section [audit], so there is no audit key")
    instance = settings.identity.instance if settings.identity else None
    return owner_of(AUDIT, instance or socket.gethostname(), str(settings.audit.directory))


def pem_of(key: PublicKey) -> str:
    """What an auditor keeps."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@dataclass(frozen=True)
class _Running:
    audit: AuditLog
    writer: Writer
    sealer: Sealer
    sealing: asyncio.Task[None]

    async def stop(self) -> None:
        self.sealing.cancel()
        await asyncio.gather(self.sealing, return_exceptions=True)
        self.audit.record("stop")
        await self.sealer.last()
        await asyncio.to_thread(self.writer.close)


async def _recovered(settings: AuditSettings) -> Recovered:
    try:
        recovered = await asyncio.to_thread(recover, settings.directory)
    except OSError as error:
        raise StartFailed(f"audit.directory {settings.directory}: {error.strerror}") from error
    if (bad := recovered.damage) is None:
        return recovered
    where = f"{bad.file}:{bad.line}: record {bad.seq} {bad.kind.value}: {bad.detail}"
    if settings.strict:
        raise StartFailed(
            f"the audit log is damaged: {where}; move its files away, and a new one is begun"
        )
    log.critical("audit log damaged", where=where)
    return recovered


def _key(token: Token, owner: str) -> tuple[TokenKey, bool]:
    """The audit key, and whether it was made just now."""
    if (key := find_audit_key(token, owner)) is not None:
        return key, False
    return make_audit_key(token, owner), True


def _record_start(audit: AuditLog, settings: Settings, key: TokenKey, recovered: Recovered) -> None:
    bad = recovered.damage
    audit.record(
        "start",
        version=__version__,
        pid=os.getpid(),
        configuration_sha256=digest(settings),
        audit_key=key_hash(key.public_key),
        audit_key_pem=pem_of(key.public_key),
        damage=f"{bad.file}:{bad.line}: {bad.kind.value}" if bad else None,
    )
