"""An audit log on a fake token."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from sidecar.audit.base import SIGNED, Asked
from sidecar.audit.files import LogDirectory, files_in, lines_of, write_all
from sidecar.audit.log import AuditLog
from sidecar.audit.record import Record
from sidecar.audit.recovery import recover
from sidecar.audit.seal import key_hash
from sidecar.audit.sealing import Interval, Sealer, find_audit_key, make_audit_key
from sidecar.audit.verify import Report, verify
from sidecar.audit.writer import Rotation, Writer
from sidecar.core.process import UNKNOWN
from sidecar.core.public_key import PublicKey
from sidecar.errors import AuditUnavailable
from sidecar.telemetry import AuditCounts
from sidecar.token.executor import TokenExecutor
from tests.fakes.token import FakeToken
from tests.fixtures.clock import Clock
from tests.fixtures.waiting import soon

OWNER = "0a1b2c3d"
ASKED = Asked(UNKNOWN, b"\x0a", "tls13-server", "ED25519", b"message")


async def request(log: AuditLog) -> list[AuditUnavailable | None]:
    """Records one request; returns what its caller is told."""
    told: list[AuditUnavailable | None] = []
    log.request(ASKED, SIGNED, told.append)
    await soon(lambda: told)
    return told


@dataclass
class Auditing:
    """Starts and stops a log as a process does. Use it from the event loop."""

    path: Path
    token: FakeToken = field(default_factory=FakeToken)
    clock: Clock = field(default_factory=Clock)
    strict: bool = False
    rotation: Rotation = Rotation(1 << 20, 3600)
    interval: Interval = Interval(1000, timedelta(hours=1))
    anchor: str | None = None
    # May be another one while it runs.
    write: Callable[[int, bytes], None] = write_all

    async def start(self) -> AuditLog:
        self.executor = TokenExecutor(1, 16)
        self.directory = LogDirectory(self.path)
        found = recover(self.path)
        self.counts = AuditCounts()
        self.log = AuditLog(strict=self.strict, counts=self.counts, link=found.link)
        self.key = await self.executor.run(
            lambda: find_audit_key(self.token, OWNER) or make_audit_key(self.token, OWNER)
        )
        self.writer = Writer(
            self.directory,
            found.link,
            [torn.facts() for torn in found.torn],
            self.rotation,
            self.anchor,
            self.log,
            self.clock,
            self._steady,
            write=self._write,
        )
        self.log.begin(self.writer)
        self.writer.start()
        self.sealer = Sealer(
            self.log,
            self.token,
            self.executor,
            self.key,
            self.interval,
            found.sealed,
            found.last_seal,
        )
        self.sealing = asyncio.create_task(self.sealer.run())
        return self.log

    async def stop(self) -> None:
        """As a process that is asked to end."""
        self.sealing.cancel()
        await self.sealer.last()
        await self.end()

    async def end(self) -> None:
        """Without a last seal."""
        self.sealing.cancel()
        await asyncio.to_thread(self.writer.close)
        self.directory.close()
        self.executor.close()

    def _steady(self) -> float:
        return self.clock.moment().steady.total_seconds()

    def _write(self, file: int, content: bytes) -> None:
        self.write(file, content)

    @property
    def keys(self) -> dict[str, PublicKey]:
        return {key_hash(self.key.public_key): self.key.public_key}

    def verified(self, anchor: Path | None = None) -> Report:
        return verify([self.path], self.keys, anchor)

    def events(self) -> list[str]:
        return [record.event for record in self.records()]

    def records(self) -> list[Record]:
        records = [
            Record.parse(line.raw) for file in files_in(self.path) for line in lines_of(file)
        ]
        return [record for record in records if record]


@pytest.fixture
def auditing(tmp_path: Path) -> Auditing:
    return Auditing(tmp_path / "audit")
