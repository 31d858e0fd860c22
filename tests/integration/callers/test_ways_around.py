"""Attacks of processes that may connect, on those who may have something signed."""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import closing
from pathlib import Path

import pytest

from sidecar.callers.callers import SocketCallers
from sidecar.callers.connection import Connection
from sidecar.callers.credentials import Peer
from sidecar.errors import CallerRefused
from tests.fixtures.called import (
    DENIED,
    TALK,
    Called,
    aside,
    names_of_connections,
    refused,
    talk,
    talking,
)
from tests.fixtures.named_client import NamedClient, random_name
from tests.fixtures.other_processes import ANOTHER_NETWORK
from tests.fixtures.waiting import settle, soon


@pytest.mark.parametrize("name", [None, f"meshkey-proxy-{secrets.token_hex(16)}"])
async def test_nobody_comes_around_the_proxy(
    called: Called, short_dir: Path, name: str | None
) -> None:
    """The inner socket is for us alone; another process of our own user gets to it all the same."""
    answer = await aside(lambda: refused(short_dir / ".front" / "s", name))
    assert answer["status"] == DENIED
    assert not called.heard


async def test_around_the_proxy_a_process_is_what_it_is(called: Called, short_dir: Path) -> None:
    pid, _ = await aside(lambda: talk(short_dir / ".front" / "s", random_name()))
    assert called.heard[0][0].pid == pid


@pytest.mark.parametrize("name", [random_name(), f"meshkey-proxy-{secrets.token_hex(16)}"])
async def test_this_process_is_no_caller(called: Called, short_dir: Path, name: str) -> None:
    """Whatever name it has that the proxy has not given."""
    with socket.socket(socket.AF_UNIX) as ours:
        ours.bind(f"\0{name}")
        ours.connect(str(short_dir / "direct"))
        await soon(lambda: name in names_of_connections())
        with pytest.raises(CallerRefused):
            async with called.callers.admit(f"unix-abstract:{name}", ()):
                pass
    assert called.journal.reasons == ["it came around the proxy"]


async def test_a_name_of_the_proxys_is_nobody_elses(called: Called, short_dir: Path) -> None:
    """All in the network namespace can read names; in another one they can have them."""
    ours, _other = socket.socketpair()
    with ours, _other, closing(Peer.of(ours)) as peer, called.forwarded.named(peer) as name:
        answer = await aside(lambda: refused(short_dir / "direct", name))
    assert answer["status"] == DENIED
    (record,) = called.journal.records
    assert (record["reason"], record["uid"]) == ("it came around the proxy", os.getuid())


@pytest.mark.parametrize(
    "name",
    [
        *("1a2b3", "meshkey-", f"meshkey-{'0' * 31}", f"meshkey-{'0' * 33}", f"x-{'0' * 32}"),
        *(f"meshkey-{'A' * 32}", f"meshkey-{'0' * 32}\0", f"meshkey-{'0' * 32}\n"),
        f"meshkey-%30{'0' * 31}",
    ],
)
async def test_names_that_can_be_guessed_are_none(
    called: Called, short_dir: Path, name: str
) -> None:
    with socket.socket(socket.AF_UNIX) as ours:
        ours.bind(f"\0{name}")
        ours.connect(str(short_dir / "direct"))
        assert not names_of_connections()
        with pytest.raises(CallerRefused, match="32 random hexadecimal digits"):
            async with called.callers.admit(f"unix-abstract:{name}", ()):
                pass


async def test_a_stolen_name_gets_nobody_in(called: Called, short_dir: Path) -> None:
    name = random_name()
    with await talking(called, short_dir / "direct", name) as client:
        with await aside(lambda: _thief(short_dir / "direct", name)) as thief:
            await aside(lambda: thief.begin(TALK, b"stolen"))
            await aside(thief.end_of_call)
        await soon(lambda: len(names_of_connections()) == 1)
        # Whoever had it first goes on.
        assert len(called.inside) == 1
        await aside(lambda: client.begin(TALK, b"again"))
        assert await aside(client.message) == b"again"
        assert {process.pid for process, _ in called.heard} == {client.pid}
    assert [message for _, message in called.heard] == [b"hello", b"again"]


async def test_of_two_connections_with_one_name_none_is_believed(
    called: Called, short_dir: Path
) -> None:
    name = random_name()
    with await talking(called, short_dir / "direct", name):
        with await aside(lambda: _thief(short_dir / "direct", name)):
            await soon(lambda: len(names_of_connections()) == 2)
            with pytest.raises(CallerRefused):
                async with called.callers.admit(f"unix-abstract:{name}", ()):
                    pass
        assert called.journal.reasons == ["2 connections have its name"]
        assert called.inside, "whose call goes on already is not in doubt"


async def test_whoever_takes_a_name_is_turned_out_without_a_call(
    called: Called, short_dir: Path
) -> None:
    name = random_name()
    with await talking(called, short_dir / "direct", name):
        with await aside(lambda: _thief(short_dir / "direct", name)) as thief:
            await soon(lambda: len(names_of_connections()) == 2)
            await called.callers.look()
            assert await aside(thief.end_of_call) == {"connection": "closed"}
        assert called.inside


async def test_a_call_whose_connection_is_gone_is_nobody_elses(
    called: Called, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When its name is looked for there is one connection: that of whom it was stolen from.

    So it is let in, and is over: gRPC takes no answer for it any more.
    """

    async def at_once(_callers: SocketCallers, _connection: Connection) -> None:
        """Looking at the process would give gRPC time to end the call."""

    monkeypatch.setattr(SocketCallers, "_measure", at_once)
    name = random_name()
    with await talking(called, short_dir / "direct", name):
        for _ in range(10):
            thief = await aside(lambda: _thief(short_dir / "direct", name))
            # Both before the server has read anything: it does not run meanwhile.
            thief.begin(TALK, b"stolen")
            thief.close()
            thief.kill()
            await soon(lambda: len(names_of_connections()) == 1)
            await settle()
    assert called.begun == 1


def _thief(path: Path, name: str) -> NamedClient:
    return NamedClient(path, name, through=ANOTHER_NETWORK)
