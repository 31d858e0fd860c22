"""The search of a process's memory, over real processes."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sidecar.proof import memory
from sidecar.proof.memory import Hit, MemoryUnreadable, Region, Scan, scan
from sidecar.proof.needles import Needle, needles

PAGE = mmap.PAGESIZE

# Each gets the octets to hold on its standard input, as hexadecimal so that the
# pipe's buffers do not hold them too, and waits with what it made of them.
HOLD = "held = octets"
HOLD_ACROSS_PAGES = """
held = mmap.mmap(-1, 1024 * PAGE)
for border in range(PAGE, len(held), PAGE):
    begin = border - 1 - border // PAGE % (len(octets) - 1)
    held[begin : begin + len(octets)] = octets
"""
HOLD_ACROSS_MAPPINGS = """
held = mmap.mmap(-1, 2 * PAGE)
held[PAGE - 9 : PAGE - 9 + len(octets)] = octets
address = ctypes.addressof(ctypes.c_char.from_buffer(held))
assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address + PAGE), PAGE, mmap.PROT_READ) == 0
"""
HOLD_IN_A_CUT_FILE = """
file = tempfile.TemporaryFile()
file.truncate(3 * PAGE)
held = mmap.mmap(file.fileno(), 3 * PAGE)
held[: len(octets)] = octets
file.truncate(PAGE)
"""
HOLD_IN_A_LOST_FILE = """
file = tempfile.NamedTemporaryFile(prefix="lost-")
file.truncate(2 * PAGE)
held = mmap.mmap(file.fileno(), 2 * PAGE)
file.truncate(0)
"""
HOLD_WITHOUT_ACCESS = """
held = mmap.mmap(-1, PAGE)
held[: len(octets)] = octets
address = ctypes.addressof(ctypes.c_char.from_buffer(held))
del octets, line
assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address), PAGE, 0) == 0
"""
WAIT = """
import ctypes, mmap, sys, tempfile
PAGE = mmap.PAGESIZE
line = sys.stdin.readline()
octets = bytes.fromhex(line)
{hold}
print("holding", flush=True)
sys.stdin.read()
"""

Holder = Callable[[str, bytes], int]


@pytest.fixture
def holder() -> Iterator[Holder]:
    """Starts processes that hold octets; they end when their standard input does."""
    started: list[subprocess.Popen[str]] = []

    def start(hold: str, octets: bytes) -> int:
        process = subprocess.Popen(
            [sys.executable, "-c", WAIT.format(hold=hold)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(octets.hex() + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "holding\n"
        return process.pid

    yield start
    for process in started:
        process.communicate()


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def value(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_numbers().private_value.to_bytes(32)


def found(result: Scan) -> set[str]:
    return {hit.needle for hit in result.hits}


def test_a_raw_value_is_found(holder: Holder, value: bytes) -> None:
    assert "big-endian (raw, SEC1 or PKCS#8 DER)" in found(
        scan(holder(HOLD, value), needles(value))
    )


def test_a_little_endian_value_is_found(holder: Holder, value: bytes) -> None:
    assert "little-endian" in found(scan(holder(HOLD, value[::-1]), needles(value)))


@pytest.mark.parametrize("layout", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_a_key_file_is_found(
    holder: Holder, key: ec.EllipticCurvePrivateKey, value: bytes, layout: PrivateFormat
) -> None:
    pem = key.private_bytes(Encoding.PEM, layout, NoEncryption())
    assert any(name.startswith("base64") for name in found(scan(holder(HOLD, pem), needles(value))))


def test_a_process_without_the_value_has_no_hit(holder: Holder, value: bytes) -> None:
    result = scan(holder(HOLD, os.urandom(32)), needles(value))
    assert result.hits == ()
    assert result.mappings_read > 10
    assert result.octets_scanned > 1_000_000


def test_a_needle_across_every_chunk_border_is_found_exactly_once(
    holder: Holder, value: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_CHUNK", PAGE)
    pid = holder(HOLD_ACROSS_PAGES, value[::-1])
    hits = scan(pid, needles(value)).hits
    borders = {(hit.address + len(value)) // PAGE for hit in hits if hit.address % PAGE > PAGE - 32}
    assert len(borders) == 1023
    assert len({hit.address for hit in hits}) == len(hits)


def test_needles_of_different_lengths_are_found_exactly_once(
    holder: Holder, value: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_CHUNK", PAGE)
    pid = holder(HOLD_ACROSS_PAGES, value)
    hits = scan(pid, [Needle("short", value[:16]), Needle("long", value)]).hits
    assert len(set(hits)) == len(hits)


def test_a_needle_across_two_mappings_is_found(holder: Holder, value: bytes) -> None:
    pid = holder(HOLD_ACROSS_MAPPINGS, value)
    assert any(hit.address % PAGE == PAGE - 9 for hit in scan(pid, needles(value)).hits)


def test_pages_that_cannot_be_read_are_counted_and_the_others_searched(
    holder: Holder, value: bytes
) -> None:
    result = scan(holder(HOLD_IN_A_CUT_FILE, value), needles(value))
    assert result.octets_unreadable == 2 * PAGE
    assert result.unreadable == ()
    assert any(hit.address % PAGE == 0 for hit in result.hits)


def test_the_search_goes_on_after_a_page_that_cannot_be_read(
    holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = holder(HOLD, b"")
    program = memory._promised_regions(pid)[0]
    # Nothing is mapped right below the program.
    holed = Region(program.start - PAGE, program.end, readable=True, name="holed")
    monkeypatch.setattr(memory, "_promised_regions", lambda _pid: [holed])
    result = scan(pid, [Needle("ELF header", Path(f"/proc/{pid}/exe").read_bytes()[:64])])
    assert Hit("ELF header", program.start, "holed") in result.hits
    assert (result.octets_unreadable, result.unreadable) == (PAGE, ())


def test_a_mapping_that_cannot_be_read_is_reported(holder: Holder, value: bytes) -> None:
    result = scan(holder(HOLD_IN_A_LOST_FILE, value), needles(value))
    assert ["lost-" in region.name for region in result.unreadable] == [True]
    assert result.octets_unreadable == 2 * PAGE


def test_a_mapping_that_vanishes_is_reported(
    holder: Holder, value: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Region(0x10000, 0x10000 + 2 * PAGE, readable=True, name="gone")
    listed = memory._promised_regions
    monkeypatch.setattr(memory, "_promised_regions", lambda pid: [gone, *listed(pid)])
    result = scan(holder(HOLD, value), needles(value))
    assert result.unreadable == (gone,)
    assert result.octets_unreadable == 2 * PAGE
    assert result.hits


def test_a_mapping_that_its_process_may_not_read_is_left_out(holder: Holder, value: bytes) -> None:
    result = scan(holder(HOLD_WITHOUT_ACCESS, value), needles(value))
    assert not any(hit.address % PAGE == 0 for hit in result.hits)
    assert result.unreadable == ()


def test_a_process_that_ends_during_the_search_fails_it(
    value: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = subprocess.Popen(["sleep", "60"])
    listed = memory._promised_regions

    def end_after_listing(pid: int) -> list[Region]:
        regions = listed(pid)
        process.kill()
        process.wait()
        return regions

    monkeypatch.setattr(memory, "_promised_regions", end_after_listing)
    with pytest.raises(MemoryUnreadable, match="ended while its memory was searched"):
        scan(process.pid, needles(value))


def test_a_process_that_has_ended_fails_the_search(value: bytes) -> None:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(MemoryUnreadable, match="ended"):
        scan(process.pid, needles(value))  # a zombie
    process.wait()
    with pytest.raises(MemoryUnreadable, match=f"no process {process.pid}, or it has ended"):
        scan(process.pid, needles(value))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_process_of_another_user_fails_the_search_with_what_it_needs() -> None:
    as_nobody = (
        "import os\n"
        "from sidecar.proof.memory import MemoryUnreadable, scan\n"
        "from sidecar.proof.needles import needles\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try:\n"
        "    scan(os.getppid(), needles(bytes(range(32))))\n"
        "except MemoryUnreadable as error:\n"
        "    print(error)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", as_nobody],
        capture_output=True,
        check=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ).stdout
    assert f"cannot open the memory of process {os.getpid()}" in told
    assert "CAP_SYS_PTRACE" in told


def test_a_search_for_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to search for"):
        scan(os.getpid(), [])
