"""A request goes out as a file, and whatever is found where the chain should be is judged."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from structlog.testing import capture_logs

from sidecar.ca.file import FileAuthority
from sidecar.core.csr import build_csr
from sidecar.core.spiffe import SpiffeId
from sidecar.errors import AuthorityError, AuthorityUnavailable, ConfigurationError
from tests.fixtures import certificates
from tests.fixtures.clock import Clock
from tests.fixtures.mesh import spiffe_id

KEY = certificates.new_key()
CSR = build_csr(SpiffeId.parse(spiffe_id()), KEY)
ROOT = certificates.root()
LEAF = certificates.leaf(ROOT, KEY.public_key(), spiffe_id())
OTHER = certificates.leaf(ROOT, certificates.new_key().public_key(), spiffe_id())
CHAIN = LEAF.public_bytes(Encoding.PEM) + ROOT.pem
LIFETIME = timedelta(days=30)
DEADLINE = timedelta(seconds=10)


class Operator:
    """Does one thing in each pause between two looks, and lets time pass."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = Clock()
        self.steps: list[Callable[[], object]] = []
        self.pauses = 0
        self.authority = self.authority_that_waits(timedelta(seconds=60))

    def authority_that_waits(self, patience: timedelta) -> FileAuthority:
        return FileAuthority(
            self.directory,
            "web",
            DEADLINE,
            clock=lambda: self.clock().timestamp(),
            sleep=self._sleep,
            patience=patience,
        )

    @property
    def request(self) -> Path:
        return self.directory / "web.csr"

    @property
    def chain(self) -> Path:
        return self.directory / "web.pem"

    async def sign(self) -> list[bytes]:
        return list(await self.authority.sign(CSR, LIFETIME))

    async def _sleep(self, pause: float) -> None:
        self.pauses += 1
        self.clock.advance(timedelta(seconds=pause))
        if self.steps:
            self.steps.pop(0)()


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


async def test_the_chain_that_appears_is_the_answer(operator: Operator) -> None:
    requests: list[bytes] = []
    operator.steps = [
        lambda: requests.append(operator.request.read_bytes()),
        lambda: operator.chain.write_bytes(CHAIN),
    ]
    assert await operator.sign() == [certificates.der(LEAF), ROOT.der]
    (pem,) = requests
    assert pem == x509.load_der_x509_csr(CSR).public_bytes(Encoding.PEM)
    assert not operator.request.exists()
    assert [file.name for file in operator.directory.iterdir()] == ["web.pem"]


async def test_anybody_may_read_the_request_whatever_the_umask(operator: Operator) -> None:
    modes: list[int] = []
    operator.steps = [
        lambda: modes.append(stat.S_IMODE(operator.request.stat().st_mode)),
        lambda: operator.chain.write_bytes(CHAIN),
    ]
    umask = os.umask(0o077)
    try:
        await operator.sign()
    finally:
        os.umask(umask)
    assert modes == [0o644]


async def test_what_is_not_the_chain_yet_is_waited_through_and_told_once(
    operator: Operator,
) -> None:
    other = OTHER.public_bytes(Encoding.PEM)
    operator.steps = [
        lambda: operator.chain.write_bytes(other + ROOT.pem),
        lambda: operator.chain.write_bytes(ROOT.pem + CHAIN),
        lambda: operator.chain.write_bytes(b""),
        lambda: operator.chain.write_bytes(CHAIN[:100]),
        lambda: operator.chain.write_bytes(CHAIN[:-100]),
        operator.chain.unlink,
        operator.chain.mkdir,
        operator.chain.rmdir,
        lambda: operator.chain.write_bytes(CHAIN),
    ]
    with capture_logs() as logs:
        assert len(await operator.sign()) == 2
    assert operator.pauses == 9
    first, *others = logs
    assert first["request"] == str(operator.request)
    assert first["chain"] == str(operator.chain)
    assert first["lifetime_s"] == 30 * 24 * 3600
    assert [entry["because"].split(":")[0] for entry in others] == [
        "there is no such file",
        "its first certificate is for another key",
        "it is no complete PEM chain",
        "it cannot be read",
    ]


async def test_a_pipe_is_not_waited_for(operator: Operator) -> None:
    os.mkfifo(operator.chain)
    with pytest.raises(AuthorityUnavailable, match="it cannot be read"):
        await operator.sign()


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        (None, "there is no such file"),
        (b"garbage", "it is no complete PEM chain"),
        (OTHER.public_bytes(Encoding.PEM), "its first certificate is for another key"),
    ],
)
async def test_the_deadline_names_both_files_and_what_was_seen(
    operator: Operator, content: bytes | None, seen: str
) -> None:
    if content is not None:
        operator.chain.write_bytes(content)
    text = f"within 10 s; sign {operator.request} and put .* into {operator.chain}: {seen}"
    with pytest.raises(AuthorityUnavailable, match=text):
        await operator.sign()
    assert operator.pauses == 10
    assert operator.request.exists()  # somebody may be at work on it


async def test_a_chain_that_comes_with_the_last_look_counts(operator: Operator) -> None:
    operator.steps = [str] * 9 + [lambda: operator.chain.write_bytes(CHAIN)]
    assert len(await operator.sign()) == 2


async def test_a_file_too_large_for_a_chain_is_refused_at_once(operator: Operator) -> None:
    operator.chain.write_bytes(CHAIN + b"\n" * (1 << 20))
    with pytest.raises(AuthorityError, match="larger than 1 MiB, no chain is") as refused:
        await operator.sign()
    assert not isinstance(refused.value, AuthorityUnavailable)
    assert not operator.pauses


async def test_a_planted_link_is_replaced_and_not_followed(
    operator: Operator, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    operator.request.symlink_to(victim)
    seen: list[bool] = []
    operator.steps = [
        lambda: seen.append(operator.request.is_symlink()),
        lambda: operator.chain.write_bytes(CHAIN),
    ]
    await operator.sign()
    assert victim.read_bytes() == b"precious"
    assert seen == [False]


async def test_an_older_request_is_replaced(operator: Operator) -> None:
    operator.request.write_bytes(b"of yesterday")
    operator.request.chmod(0o400)
    seen: list[bytes] = []
    operator.steps = [
        lambda: seen.append(operator.request.read_bytes()),
        lambda: operator.chain.write_bytes(CHAIN),
    ]
    await operator.sign()
    assert seen[0].startswith(b"-----BEGIN CERTIFICATE REQUEST-----\n")


async def test_a_request_that_was_moved_away_does_no_harm(operator: Operator) -> None:
    operator.steps = [operator.request.unlink, lambda: operator.chain.write_bytes(CHAIN)]
    assert len(await operator.sign()) == 2


async def test_a_directory_that_is_not_there_is_a_refusal(operator: Operator) -> None:
    operator.directory.rmdir()
    text = rf"web\.csr cannot be written: No such file .* user {os.geteuid()} may write to"
    with pytest.raises(AuthorityError, match=text) as refused:
        await operator.sign()
    assert not isinstance(refused.value, AuthorityUnavailable)


async def test_a_failed_write_leaves_nothing_behind(operator: Operator) -> None:
    operator.request.mkdir()  # a file cannot replace it
    with pytest.raises(AuthorityError, match="cannot be written: Is a directory"):
        await operator.sign()
    assert list(operator.directory.iterdir()) == [operator.request]


async def test_what_is_no_request_of_a_mesh_is_not_written(operator: Operator) -> None:
    with pytest.raises(AuthorityError, match="file CA: the request cannot be read"):
        await operator.authority.sign(b"garbage", LIFETIME)
    assert not list(operator.directory.iterdir())


async def test_who_is_cancelled_stops_waiting(tmp_path: Path) -> None:
    waiting = asyncio.Event()

    async def forever(_pause: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    authority = FileAuthority(tmp_path, "web", DEADLINE, sleep=forever)
    answer = asyncio.ensure_future(authority.sign(CSR, LIFETIME))
    await waiting.wait()
    answer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answer


class Hanging:
    """A medium whose calls do not come back until it is `back`."""

    def __init__(self) -> None:
        self.back = threading.Event()
        self.calls = 0

    def __call__(self, *_: object) -> None:
        self.calls += 1
        self.back.wait(60)


async def test_a_medium_that_hangs_is_waited_for_until_the_deadline_on_one_thread(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = Hanging()
    monkeypatch.setattr("sidecar.ca.file._look", hanging)
    operator.authority = operator.authority_that_waits(timedelta(milliseconds=10))
    for text in ("no chain within 10 s; .*directory does not answer", "cannot be written: its dir"):
        with pytest.raises(AuthorityUnavailable, match=text):
            await operator.sign()
    assert hanging.calls == 1
    hanging.back.set()
    monkeypatch.undo()
    operator.steps = [lambda: operator.chain.write_bytes(CHAIN)]
    operator.authority._medium._patience_s = 60
    assert len(await operator.sign()) == 2


@pytest.mark.parametrize("name", ["", ".", "..", "../web", "a/b", ".hidden", "a\nb", "a b"])
def test_a_name_is_a_name_in_the_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="is no name for a request's file"):
        FileAuthority(tmp_path, name, DEADLINE)
