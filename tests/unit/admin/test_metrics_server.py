"""HTTP, as much of it as there is, and clients that mean no good."""

from __future__ import annotations

import asyncio
import select
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
from prometheus_client.core import GaugeMetricFamily, Metric
from structlog.testing import capture_logs

from sidecar.admin import metrics_server as module
from sidecar.admin.metrics import Numbers
from sidecar.admin.metrics_server import MetricsServer
from sidecar.errors import StartFailed
from tests.fixtures.scraping import GET, parse
from tests.fixtures.waiting import BOUND_S, soon

LONG = b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 8200


class _Numbers(Numbers):
    """One number, with as much text as is wanted."""

    def __init__(self, text: str = "", error: Exception | None = None) -> None:
        self._text = text
        self._error = error

    def collect(self) -> Iterator[Metric]:
        if self._error:
            raise self._error
        yield GaugeMetricFamily("meshkey_one", self._text, value=1)


@asynccontextmanager
async def _serving(
    path: Path, numbers: Numbers | None = None, patience: float = BOUND_S
) -> AsyncIterator[MetricsServer]:
    server = MetricsServer(numbers or _Numbers(), patience)
    stop = await server.start(path)
    try:
        yield server
    finally:
        stop()


@asynccontextmanager
async def _client(
    path: Path, begin: bytes
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(begin)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """All that comes; nothing if the connection was cut off."""
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def _ask(path: Path, request: bytes = GET) -> bytes:
    async with _client(path, request) as (reader, _):
        return await _rest(reader)


async def test_the_numbers_come_as_text_for_prometheus(short_dir: Path) -> None:
    path = short_dir / "metrics"
    async with _serving(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        answer = await _ask(path)
        assert b"Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n" in answer
        assert parse(answer).value("meshkey_one") == 1
        assert parse(await _ask(path, b"GET / HTTP/1.0\r\n\r\n")).value("meshkey_one") == 1
        assert parse(await _ask(path, GET.replace(b"metrics", b"metrics?a=b"))).families
    assert not path.exists()


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (GET.replace(b"/metrics", b"/metrics/"), b"404 Not Found"),
        (GET.replace(b"/metrics", b"/../metrics"), b"404 Not Found"),
        (GET.replace(b"GET", b"POST"), b"405 Method Not Allowed\r\nAllow: GET"),
        (GET.replace(b"GET", b"get"), b"405 Method Not Allowed"),
        (GET.replace(b" HTTP/1.1", b""), b"400 Bad Request"),
        (GET.replace(b"HTTP/1.1", b"HTTP/2.0"), b"400 Bad Request"),
        (b"\r\n\r\n", b"400 Bad Request"),
        (b"\x16\x03\x01 \xff \x00\r\n\r\n", b"400 Bad Request"),
        (LONG, b"431 Request Header Fields Too Large"),
    ],
)
async def test_everything_else_is_refused(short_dir: Path, request_: bytes, answer: bytes) -> None:
    async with _serving(short_dir / "metrics"):
        assert (await _ask(short_dir / "metrics", request_)).startswith(b"HTTP/1.1 " + answer)
        assert parse(await _ask(short_dir / "metrics")).families


async def test_a_client_that_leaves_in_the_middle_costs_nothing(short_dir: Path) -> None:
    async with _serving(short_dir / "metrics") as server:
        async with _client(short_dir / "metrics", GET[:20]):
            await soon(lambda: server._connections == 1)
        await soon(lambda: server._connections == 0)


async def test_a_slow_client_keeps_nobody_waiting(short_dir: Path) -> None:
    path = short_dir / "metrics"
    async with _serving(path), _client(path, GET[:20]):
        assert parse(await _ask(path)).families


async def test_a_slow_client_is_cut_off(short_dir: Path) -> None:
    path = short_dir / "metrics"
    async with _serving(path, patience=0.05), _client(path, GET[:20]) as (slow, _):
        assert await _rest(slow) == b""


async def test_a_client_that_does_not_read_is_cut_off(short_dir: Path) -> None:
    path = short_dir / "metrics"
    text = "x" * 4_000_000
    async with _serving(path, _Numbers(text), patience=0.5):
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.connect(str(path))
            deaf.sendall(GET)
            hung_up = select.poll()
            hung_up.register(deaf, 0)
            await soon(lambda: hung_up.poll(0), "the server hangs up")
            assert len(deaf.recv(len(text), socket.MSG_DONTWAIT)) < len(text)


async def test_past_the_bound_connections_are_closed(short_dir: Path) -> None:
    path = short_dir / "metrics"
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(_serving(path))
        for _ in range(module._AT_ONCE):
            _, writer = await stack.enter_async_context(_client(path, GET[:20]))
        await soon(lambda: server._connections == module._AT_ONCE)
        assert await _ask(path) == b""
        writer.close()
        await soon(lambda: server._connections < module._AT_ONCE)
        assert parse(await _ask(path)).families


async def test_a_bug_in_a_number_is_logged_and_says_nothing_to_the_client(short_dir: Path) -> None:
    with capture_logs() as logs:
        async with _serving(short_dir / "metrics", _Numbers(error=ZeroDivisionError("secret"))):
            answer = await _ask(short_dir / "metrics")
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"secret" not in answer
    assert [entry["event"] for entry in logs] == ["metrics failed"]


async def test_an_address_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            StartFailed, match=rf"^metrics.address 127.0.0.1:{port}: Address already in use$"
        ):
            await MetricsServer(_Numbers()).start(("127.0.0.1", port))


async def test_a_socket_that_somebody_serves_is_not_taken(short_dir: Path) -> None:
    async with _serving(short_dir / "metrics"):
        with pytest.raises(StartFailed, match="another process serves"):
            await MetricsServer(_Numbers()).start(short_dir / "metrics")
        assert parse(await _ask(short_dir / "metrics")).families
