"""Clients that come through the accept proxy."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from sidecar.callers.credentials import Credentials
from sidecar.errors import CallerRefused
from sidecar.rpc.sockets import unix_channel
from tests.fixtures.called import (
    TALK,
    Called,
    aside,
    names_of_connections,
    refused,
    talk,
    talking,
)
from tests.fixtures.waiting import soon


async def test_the_door_refuses_before_a_byte_is_read(short_dir: Path) -> None:
    def door(credentials: Credentials) -> None:
        raise CallerRefused(f"no rule is for user {credentials.uid}")

    served = Called()
    async with served.proxied(short_dir / "front", door):
        answer = await aside(lambda: refused(short_dir / "front"))
    assert answer == {"connection": "closed"}
    assert served.journal.reasons == [f"no rule is for user {os.getuid()}"]


async def test_the_proxy_has_room_for_so_many(
    called: Called, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.callers.accept_proxy.MAX_CONNECTIONS", 1)
    with await talking(called, short_dir / "front"):
        assert await aside(lambda: refused(short_dir / "front")) == {"connection": "closed"}
        assert called.journal.reasons == ["1 connections are open already"]
    await soon(lambda: not names_of_connections())
    _, answer = await aside(lambda: talk(short_dir / "front"))
    assert answer == b"hello"


async def test_much_passes_the_proxy_in_both_directions(called: Called, short_dir: Path) -> None:
    message = os.urandom(3 * 1024 * 1024)
    async with unix_channel(short_dir / "front") as channel:
        call: Any = channel.stream_stream(TALK)()
        for _ in range(4):
            await call.write(message)
            assert await call.read() == message


async def test_sockets_of_the_proxy_are_gone_with_it(short_dir: Path) -> None:
    served = Called()
    async with served.proxied(short_dir / "front"):
        inner = await aside((short_dir / ".front").stat)
        assert stat.S_IMODE(inner.st_mode) == 0o700
        socket_ = await aside((short_dir / ".front" / "s").stat)
        assert stat.S_IMODE(socket_.st_mode) == 0o600
    assert not os.listdir(short_dir)  # noqa: PTH208  # not blocking


async def test_a_proxy_starts_where_another_was_killed(short_dir: Path) -> None:
    def left_behind() -> None:
        (short_dir / ".front").mkdir(mode=0o700)
        for path in (short_dir / "front", short_dir / ".front" / "s"):
            with socket.socket(socket.AF_UNIX) as dead:
                dead.bind(str(path))

    await aside(left_behind)
    served = Called()
    async with served.proxied(short_dir / "front"):
        assert (await aside(lambda: talk(short_dir / "front")))[1] == b"hello"
