"""Unix sockets: whose they are, and who may connect."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from sidecar.errors import StartFailed
from sidecar.rpc import sockets
from sidecar.rpc.sockets import MAX_CONNECTIONS, bind, unix_channel, unix_listener, unix_server
from tests.fixtures.waiting import soon


@asynccontextmanager
async def _serving(path: Path, mode: int = 0o600) -> AsyncIterator[grpc.aio.Server]:
    server = unix_server()
    bind(server, path, mode)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(None)


async def _answers(path: Path, *, wait_for_ready: bool = False) -> bool:
    async with unix_channel(path) as channel:
        call: Any = channel.unary_unary("/nothing/Here")
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call(b"", timeout=30, wait_for_ready=wait_for_ready)
        return failed.value.code() is grpc.StatusCode.UNIMPLEMENTED


def _leave_a_dead_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


@pytest.mark.parametrize("mode", [0o600, 0o660])
async def test_a_socket_has_exactly_the_mode_asked_for(short_dir: Path, mode: int) -> None:
    before = os.umask(0)
    try:
        async with _serving(short_dir / "s", mode):
            status = (short_dir / "s").stat()
            assert stat.S_ISSOCK(status.st_mode)
            assert stat.S_IMODE(status.st_mode) == mode
        assert os.umask(0) == 0, "the umask is restored"
    finally:
        os.umask(before)


async def test_a_socket_is_never_wider_than_its_mode(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def chmod(path: Path, mode: int) -> None:
        seen.append(stat.S_IMODE(path.stat().st_mode))
        os.chmod(path, mode)  # noqa: PTH101  # the method is replaced here

    monkeypatch.setattr(Path, "chmod", chmod)
    async with _serving(short_dir / "s", 0o660):
        pass
    assert seen == [0o600]


async def test_a_channel_reaches_the_server(short_dir: Path) -> None:
    async with _serving(short_dir / "s"):
        assert await _answers(short_dir / "s")


async def test_a_caller_with_very_many_calls_does_not_take_the_memory_of_the_process(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "MAX_CALLS", 3)
    monkeypatch.setattr(sockets, "MAX_CALLS_OF_CONNECTION", 2)
    begun, for_ever = 0, asyncio.Event()

    async def wait(_request: bytes, _context: object) -> bytes:
        nonlocal begun
        begun += 1
        await for_ever.wait()
        return b""

    method: Any = grpc.unary_unary_rpc_method_handler(wait)
    server = unix_server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("nothing", {"Here": method}),)
    )
    bind(server, short_dir / "s", 0o600)
    await server.start()
    # Else both would have one connection.
    own = [("grpc.use_local_subchannel_pool", 1)]
    one, other = (
        grpc.aio.insecure_channel(f"unix:{short_dir / 's'}", options=own) for _ in range(2)
    )
    ask: Any = one.unary_unary("/nothing/Here")
    ask_too: Any = other.unary_unary("/nothing/Here")
    async with one, other:
        of_one = [ask(b"") for _ in range(3)]
        await soon(lambda: begun == 2)
        last = ask_too(b"")
        await soon(lambda: begun == 3)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await ask_too(b"", timeout=30)
        assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        # The third of the one connection was not refused: it waits.
        assert not any(call.done() for call in [*of_one, last])
        for_ever.set()
        for call in [*of_one, last]:
            assert await call == b""
    await server.stop(None)


async def test_a_caller_with_very_many_connections_does_not_take_every_descriptor(
    short_dir: Path,
) -> None:
    async with _serving(short_dir / "s"):
        connections = [
            await asyncio.open_unix_connection(short_dir / "s") for _ in range(MAX_CONNECTIONS + 20)
        ]
        # The server begins with its settings on each connection that it keeps.
        firsts = await asyncio.gather(*(_first_byte(reader) for reader, _ in connections))
        assert len(list(filter(None, firsts))) == MAX_CONNECTIONS
        for _, writer in connections:
            writer.transport.abort()
        assert await _answers(short_dir / "s", wait_for_ready=True)


async def _first_byte(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(1)
    except ConnectionError:
        return b""


async def test_a_socket_that_a_dead_process_left_is_replaced(short_dir: Path) -> None:
    _leave_a_dead_socket(short_dir / "s")
    async with _serving(short_dir / "s"):
        assert await _answers(short_dir / "s")


async def test_a_socket_that_somebody_serves_is_not_taken(short_dir: Path) -> None:
    async with _serving(short_dir / "s"):
        with pytest.raises(StartFailed, match="another process serves"):
            bind(unix_server(), short_dir / "s", 0o600)
        assert await _answers(short_dir / "s")


async def test_a_socket_that_cannot_be_asked_is_not_taken(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _leave_a_dead_socket(short_dir / "s")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(StartFailed, match="Permission denied"):
        bind(unix_server(), short_dir / "s", 0o600)
    assert (short_dir / "s").exists()


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
async def test_what_is_no_socket_is_left_alone(short_dir: Path, kind: str) -> None:
    path = short_dir / "s"
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(short_dir / "elsewhere")
    with pytest.raises(StartFailed, match="is no socket"):
        bind(unix_server(), path, 0o600)
    assert os.path.lexists(path)  # noqa: ASYNC240  # a moment, in a test


async def test_a_missing_directory_is_named(short_dir: Path) -> None:
    with pytest.raises(StartFailed, match="gone is no directory; create it first"):
        bind(unix_server(), short_dir / "gone" / "s", 0o600)


async def test_a_directory_that_is_a_file_is_named(short_dir: Path) -> None:
    (short_dir / "file").write_text("")
    with pytest.raises(StartFailed, match="file is no directory"):
        bind(unix_server(), short_dir / "file" / "s", 0o600)


async def test_nothing_is_left_of_a_socket_when_its_server_stops(short_dir: Path) -> None:
    async with _serving(short_dir / "s"):
        pass
    assert not (short_dir / "s").exists()


@pytest.mark.parametrize("mode", [0o600, 0o660])
def test_a_listener_is_bound_in_the_same_way(short_dir: Path, mode: int) -> None:
    path = short_dir / "s"
    _leave_a_dead_socket(path)
    with unix_listener(path, mode) as listener:
        assert stat.S_IMODE(path.stat().st_mode) == mode
        listener.listen()
        with pytest.raises(StartFailed, match="another process serves"):
            unix_listener(path, mode)
    path.unlink()
    path.write_text("precious")
    with pytest.raises(StartFailed, match="is no socket"):
        unix_listener(path, mode)
    with pytest.raises(StartFailed, match="gone is no directory"):
        unix_listener(short_dir / "gone" / "s", mode)
    with pytest.raises(StartFailed, match="cannot be bound"):
        unix_listener(short_dir / ("s" * 200), mode)
