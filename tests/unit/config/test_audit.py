"""[audit], and the hash of a whole configuration."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sidecar.config.digest import digest
from sidecar.config.load import parse
from sidecar.config.settings import Settings
from sidecar.config.values import Size
from sidecar.errors import ConfigurationError

DOCUMENT: dict[str, Any] = {
    "token": {"label": "mesh", "pin_file": "/pin"},
    "identity": {
        "spiffe_id": "spiffe://test.mesh/web",
        "trust_bundle": "/roots.pem",
        "sides": ["client", "server"],
    },
    "ca": {"socket": "/run/ca"},
    "signer": {"socket": "/run/signer"},
    "audit": {"directory": "/var/log/meshkey"},
}
_IN_A_PROCESS = f"""
from sidecar.config.digest import digest
from sidecar.config.load import parse
print(digest(parse({DOCUMENT!r}, {{}})))
"""


def _parsed(environment: dict[str, str] | None = None, **audit: Any) -> Settings:
    document = {**DOCUMENT, "audit": {**DOCUMENT["audit"], **audit}}
    return parse(document, environment or {})


def test_only_the_directory_is_needed() -> None:
    audit = _parsed().audit
    assert audit
    assert audit.directory == Path("/var/log/meshkey")
    assert (audit.strict, audit.anchor) == (False, None)
    assert (audit.seal_records, audit.seal_interval) == (1000, timedelta(seconds=10))
    assert (audit.rotate_size, audit.rotate_age) == (Size(64 << 20), timedelta(hours=24))


def test_without_a_section_there_is_none() -> None:
    assert parse({k: v for k, v in DOCUMENT.items() if k != "audit"}, {}).audit is None


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"directory": "here"}, "audit.directory: an absolute path"),
        ({"rotate_size": "64MB"}, "audit.rotate_size: a size is needed"),
        ({"rotate_size": "0KiB"}, "audit.rotate_size: a size is needed"),
        ({"rotate_size": 64}, "audit.rotate_size: a text is needed"),
        ({"anchor": "stderr"}, "audit.anchor: an absolute path"),
        ({"seal_records": 0}, "audit.seal_records: a number from 1"),
        ({"strict": "yes"}, "audit.strict: true or false"),
    ],
)
def test_what_is_wrong_is_named(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        _parsed(**wrong)


@pytest.mark.parametrize(
    ("size", "spelled"), [(1 << 10, "1KiB"), (64 << 20, "64MiB"), (3 << 30, "3GiB")]
)
def test_a_size_is_spelled_as_it_is_given(size: int, spelled: str) -> None:
    assert str(Size(size)) == spelled


def test_the_anchor_is_a_file_or_standard_output() -> None:
    for anchor in ("stdout", "/mnt/anchor"):
        audit = _parsed(anchor=anchor).audit
        assert audit
        assert audit.anchor == anchor


def test_the_same_settings_have_the_same_hash_in_every_process() -> None:
    hashes = {
        subprocess.run(
            [sys.executable, "-c", _IN_A_PROCESS],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[3])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2", "3")
    }
    assert hashes == {digest(_parsed())}


def test_any_other_setting_makes_another_hash() -> None:
    hashes = [
        digest(_parsed()),
        digest(_parsed(strict=True)),
        digest(_parsed(anchor="stdout")),
        digest(_parsed({"MESHKEY_TOKEN_THREADS": "3"})),
        digest(_parsed({"MESHKEY_IDENTITY_SIDES": "client"})),
    ]
    assert len(set(hashes)) == len(hashes)


def test_where_a_setting_is_written_makes_no_difference() -> None:
    assert digest(_parsed({"MESHKEY_AUDIT_STRICT": "true"})) == digest(_parsed(strict=True))
