"""Who is at the other end, and when its calls end. Callers are other processes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.fixtures.called import (
    DENIED,
    PYTHON,
    TALK,
    Called,
    RememberingPolicy,
    aside,
    descriptors,
    names_of_connections,
    refuse,
    refused,
    talk,
    talking,
)
from tests.fixtures.named_client import NamedClient, random_name
from tests.fixtures.other_processes import ANOTHER_GROUP, ANOTHER_USER
from tests.fixtures.waiting import soon


async def test_a_client_that_names_its_socket_is_known(called: Called, short_dir: Path) -> None:
    pid, answer = await aside(lambda: talk(short_dir / "direct", random_name()))
    assert answer == b"hello"
    process = called.heard[0][0]
    assert (process.uid, process.gid, process.pid) == (os.getuid(), os.getgid(), pid)
    assert process.executable == PYTHON
    assert process.is_interpreter


async def test_a_client_without_a_name_is_known_through_the_proxy(
    called: Called, short_dir: Path
) -> None:
    pid, answer = await aside(lambda: talk(short_dir / "front"))
    assert answer == b"hello"
    assert called.heard[0][0].pid == pid


async def test_a_client_without_a_name_learns_what_to_do(called: Called, short_dir: Path) -> None:
    answer = await aside(lambda: refused(short_dir / "direct"))
    assert answer["status"] == DENIED
    assert "32 random hexadecimal digits" in str(answer["detail"])
    assert not called.heard


async def test_another_user_is_known_as_such(called: Called, short_dir: Path) -> None:
    await aside(lambda: short_dir.chmod(0o755))
    client = NamedClient(short_dir / "direct", random_name(), user=ANOTHER_USER)
    with client:
        await aside(lambda: client.begin(TALK, b"hello"))
        await aside(client.message)
        process = called.inside[0].process
    assert (process.uid, process.gid) == (ANOTHER_USER, ANOTHER_GROUP)


async def test_the_end_of_a_process_ends_its_calls(called: Called, short_dir: Path) -> None:
    with await talking(called, short_dir / "direct") as client:
        admitted = called.inside[0]
        # Its connection stays: a child of it has that.
        await aside(client.fork)
        assert "log of the sidecar" in str(await admitted.over())
        await soon(lambda: not called.inside)
        assert admitted.permissions == {}


async def test_the_end_of_a_process_behind_the_proxy_ends_its_calls(
    called: Called, short_dir: Path
) -> None:
    with await talking(called, short_dir / "front") as client:
        await aside(client.fork)
        await soon(lambda: not called.inside)


@pytest.mark.parametrize("path", ["direct", "front"])
async def test_another_program_in_the_process_ends_its_calls(
    called: Called, short_dir: Path, path: str
) -> None:
    with await talking(called, short_dir / path) as client:
        await called.callers.look()
        assert called.inside, "the same program may go on"
        client.execute("sleep", "60")
        await soon(lambda: (Path(f"/proc/{client.pid}/exe").readlink()).name == "sleep")
        await called.callers.look()
        await soon(lambda: not called.inside)
    assert called.journal.reasons == ["the process runs another program than before"]


async def test_a_new_call_shows_another_program_at_once(called: Called, short_dir: Path) -> None:
    with await talking(called, short_dir / "direct") as client:
        # A child of it speaks on.
        await aside(lambda: client.execute_and_stay("sleep", "60"))
        await soon(lambda: (Path(f"/proc/{client.pid}/exe").readlink()).name == "sleep")
        await aside(lambda: client.begin(TALK, b"again"))
        assert (await aside(client.end_of_call))["status"] == DENIED
        await soon(lambda: not called.inside)
    assert [message for _, message in called.heard] == [b"hello"]


async def test_the_policy_is_asked_again_on_the_timer(called: Called, short_dir: Path) -> None:
    with await talking(called, short_dir / "direct") as client:
        called.policy.rule = refuse
        ended = asyncio.create_task(aside(client.end_of_call))
        running = asyncio.create_task(called.callers.run())
        assert (await ended)["status"] == DENIED
        running.cancel()
        assert "no rule allows it" in called.journal.reasons


async def test_another_policy_counts_at_once(called: Called, short_dir: Path) -> None:
    with await talking(called, short_dir / "direct") as client:
        admitted, other = called.inside[0], RememberingPolicy()
        other.answer = {}
        called.callers.policy = other
        assert admitted.permissions == {}
        other.rule = refuse
        called.callers.policy = other
        assert (await aside(client.end_of_call))["status"] == DENIED


async def test_a_refused_caller_learns_nothing(called: Called, short_dir: Path) -> None:
    called.policy.rule = refuse
    answer = await aside(lambda: refused(short_dir / "direct", random_name()))
    assert answer == {
        "status": DENIED,
        "detail": "this process may not use this socket; the log of the sidecar says why",
    }
    (record,) = called.journal.records
    assert (record["reason"], record["executable_sha256"]) == ("no rule allows it", PYTHON)


@pytest.mark.parametrize(
    ("header", "bearer"),
    [
        ({"authorization": "Bearer a.b.c"}, "a.b.c"),
        ({"authorization": "bearer a.b.c"}, "a.b.c"),
        ({"authorization": "Basic YTpi"}, None),
        ({"authorization": "Bearer "}, None),
        ({"authorization": "a.b.c"}, None),
        ({}, None),
    ],
)
async def test_the_policy_sees_the_token_that_a_call_presents(
    called: Called, short_dir: Path, header: dict[str, str], bearer: str | None
) -> None:
    await aside(lambda: talk(short_dir / "direct", random_name(), **header))
    assert called.policy.asked[0][1] == bearer


async def test_nothing_stays_of_connections_that_are_closed(
    called: Called, short_dir: Path
) -> None:
    def round_() -> None:
        talk(short_dir / "direct", random_name())
        talk(short_dir / "front")

    await aside(round_)
    await soon(lambda: not names_of_connections())
    await called.callers.look()
    before = descriptors()
    for _ in range(3):
        await aside(round_)
    await soon(lambda: not names_of_connections())
    await called.callers.look()
    await soon(lambda: descriptors() <= before)
    assert not list(called.callers._connections)
