"""`meshkey audit verify`: what it prints and how it exits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sidecar.cli import commands
from tests.fixtures.audit import WrittenLog


@pytest.fixture
def log() -> WrittenLog:
    return WrittenLog.of(7, 4)


@pytest.fixture
def directory(tmp_path: Path, log: WrittenLog) -> Path:
    log.write(tmp_path / "audit")
    (tmp_path / "anchor").write_bytes(log.seals[-1] + b"\n")
    _key(tmp_path / "key.pem", log)
    return tmp_path


def _key(path: Path, log: WrittenLog) -> Path:
    public = log.key.public_key()
    path.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


def _verify(directory: Path, *arguments: str) -> Result:
    key = str(directory / "key.pem")
    audit = str(directory / "audit")
    return CliRunner().invoke(commands, ["audit", "verify", "--audit-key", key, audit, *arguments])


def test_a_good_log_exits_with_0_and_says_what_is_not_proven(directory: Path) -> None:
    done = _verify(directory)
    assert done.exit_code == 0
    assert done.output.splitlines() == [
        "records: 16, seals: 3, files: 2",
        "proven: records 1 to 14",
        "tail not proven: records after 16 may have been cut off; "
        "give a seal from elsewhere with --anchor",
    ]


def test_with_an_anchor_the_tail_is_proven(directory: Path) -> None:
    done = _verify(directory, "--anchor", str(directory / "anchor"))
    assert done.exit_code == 0
    assert done.output.splitlines()[1:] == [
        "proven: records 1 to 15",
        "tail proven up to the anchor's last seal; 1 records came after it",
    ]


def test_the_first_bad_record_is_named_and_exits_with_65(directory: Path) -> None:
    file = directory / "audit" / "audit-000000000001.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"number":2', b'"number":9'))
    done = _verify(directory)
    assert done.exit_code == 65
    assert f"{file}:3: record 3 changed: " in done.output
    assert "proven" not in done.output
    as_json = _verify(directory, "--json")
    assert as_json.exit_code == 65
    report = json.loads(as_json.output)
    assert report["bad_record"]["kind"] == "changed"
    assert (report["bad_record"]["line"], report["bad_record"]["seq"]) == (3, 3)
    assert report["tail_proven"] is False


def test_part_of_a_log_says_where_it_begins(directory: Path) -> None:
    (directory / "audit" / "audit-000000000001.jsonl").unlink()
    done = _verify(directory)
    assert done.exit_code == 0
    assert "these files begin with record 11" in done.output
    assert "proven: records 11 to 14" in done.output


def test_a_log_that_outlived_its_key_has_two(directory: Path, log: WrittenLog) -> None:
    new = WrittenLog(link=log.link, sealed=log.sealed, last_seal=log.last_seal)
    new.begin_file()
    new.seal()
    new.write(directory / "audit")
    assert "which was not given" in _verify(directory).output
    second = _key(directory / "second.pem", new)
    assert _verify(directory, "--audit-key", str(second)).exit_code == 0


@pytest.mark.parametrize(
    ("name", "content", "code", "told"),
    [
        ("key.pem", b"-----BEGIN", 65, "no public key of an audit log"),
        ("anchor", b"", 65, "no seal is in there"),
        ("key.pem", None, 66, "No such file"),
        ("anchor", None, 66, "No such file"),
    ],
)
def test_what_is_given_and_cannot_be_used_has_its_exit_code(
    directory: Path, name: str, content: bytes | None, code: int, told: str
) -> None:
    file = directory / name
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    done = _verify(directory, "--anchor", str(directory / "anchor"))
    assert done.exit_code == code
    assert told in done.output
