"""A configuration that is read again applies as a whole, or not at all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from structlog.testing import capture_logs

from sidecar import telemetry
from sidecar.app.reload import Rates, Reload
from sidecar.config.digest import digest
from sidecar.config.load import parse
from sidecar.config.settings import Settings
from sidecar.core.journal import NOWHERE
from sidecar.errors import ConfigurationError, OverRate, ReloadRefused
from sidecar.signer.quota import Quota
from sidecar.token.base import KeyId
from tests.fixtures.journal import RememberedJournal

_ISSUER = {"socket": "/run/issuer", "trust_domain": "test.mesh", "root_file": "/run/root.pem"}
_DOCUMENT: dict[str, Any] = {
    "token": {"label": "mesh", "pin_file": "/run/pin"},
    "issuer": _ISSUER,
}


@dataclass
class _Part:
    """`Reloadable`."""

    takes: frozenset[str] = frozenset()
    refuses: bool = False
    applied: list[Settings] = field(default_factory=list)

    def prepare(self, settings: Settings) -> Callable[[], None]:
        if self.refuses:
            raise ConfigurationError("issuer.longest: not with these roots")
        return lambda: self.applied.append(settings)


class _Process:
    def __init__(self) -> None:
        self.journal = RememberedJournal()
        self.document: dict[str, Any] = dict(_DOCUMENT)
        self.part = _Part(frozenset({"issuer"}))
        self.reloads = Reload(parse(_DOCUMENT, {}), self._read, lambda: self.journal)
        self.reloads.register(self.part)

    def _read(self) -> Settings:
        return parse(self.document, {})

    async def refused(self) -> str:
        with pytest.raises(ReloadRefused) as refused:
            await self.reloads.reload()
        return str(refused.value)


@pytest.fixture
async def process() -> _Process:
    return _Process()


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    yield
    telemetry.use_level("info")


async def test_what_may_change_applies_and_is_recorded_with_its_digest(process: _Process) -> None:
    process.document["issuer"] = {**_ISSUER, "longest": "2h"}
    reloaded = await process.reloads.reload()
    settings = parse(process.document, {})
    assert reloaded.changed == ("issuer.longest",)
    assert reloaded.digest == digest(settings)
    assert process.part.applied == [settings]
    assert process.journal.records == [
        (
            "configuration reloaded",
            {"changed": ["issuer.longest"], "configuration_sha256": digest(settings)},
        )
    ]
    assert (await process.reloads.reload()).changed == ()


async def test_every_part_is_asked_even_if_no_setting_differs(process: _Process) -> None:
    await process.reloads.reload()
    assert len(process.part.applied) == 1


async def test_the_level_of_the_log_changes(process: _Process) -> None:
    process.document["log"] = {"level": "error"}
    await process.reloads.reload()
    assert telemetry._level.least == logging.ERROR


async def test_other_rates_count_for_callers_that_are_there() -> None:
    document = {
        "token": _DOCUMENT["token"],
        "identity": {"spiffe_id": "spiffe://test.mesh/web", "trust_bundle": "/run/root.pem"},
        "ca": {"socket": "/run/ca"},
        "signer": {"socket": "/run/signer", "key_rate": 1},
    }
    quota = Quota(key_rate=1, clock=lambda: 0.0)
    changed = {**document, "signer": {"socket": "/run/signer", "key_rate": 5}}
    reloads = Reload(parse(document, {}), lambda: parse(changed, {}), lambda: NOWHERE)
    reloads.register(Rates(quota))
    key_id = KeyId(b"\x0a")
    quota.admit_key(key_id)
    with pytest.raises(OverRate):
        quota.admit_key(key_id)
    assert (await reloads.reload()).changed == ("signer.key_rate",)
    with pytest.raises(OverRate, match="more than 5 signatures"):
        quota.admit_key(key_id)


async def test_a_file_that_is_wrong_changes_nothing_and_says_what_is(process: _Process) -> None:
    process.document["log"] = {"level": "loud"}
    process.document["issuer"] = {**_ISSUER, "longest": "2h"}
    refused = await process.refused()
    assert refused.startswith("log.level: one of debug, info")
    assert refused.endswith("; nothing changed")
    assert process.part.applied == []
    assert process.journal.events == ["configuration not reloaded"]


async def test_what_needs_a_restart_is_named_and_keeps_the_rest_from_applying(
    process: _Process,
) -> None:
    process.document = {
        "token": {"label": "other", "pin_file": "/run/secret-place"},
        "issuer": {**_ISSUER, "longest": "2h"},
        "admin": {"socket": "/run/admin"},
    }
    refused = await process.refused()
    assert refused == (
        "token.label, token.pin_file, admin: needs a restart; nothing changed. "
        "Without one apply: issuer, log.level"
    )
    assert process.part.applied == []
    process.document = {**_DOCUMENT, "issuer": {**_ISSUER, "longest": "2h"}}
    assert (await process.reloads.reload()).changed == ("issuer.longest",)


async def test_a_part_that_refuses_keeps_all_others_from_applying(process: _Process) -> None:
    process.reloads.register(_Part(refuses=True))
    assert await process.refused() == "issuer.longest: not with these roots; nothing changed"
    assert process.part.applied == []


async def test_after_a_signal_an_error_is_in_the_log_and_goes_no_further(process: _Process) -> None:
    process.document["log"] = {"level": "loud"}
    with capture_logs() as logs:
        await process.reloads.on_signal()
    (line,) = logs
    assert line["event"] == "configuration not reloaded"
    assert line["error"].startswith("log.level: ")
