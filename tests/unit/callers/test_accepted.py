"""Our own descriptors, found by the names of the other ends."""

from __future__ import annotations

import errno
import fcntl
import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.callers.accepted import accepted, name_in
from tests.fixtures.named_client import random_name


@pytest.fixture
def names() -> Iterator[list[str]]:
    """Of connections that are open to this process, among others that have no such name."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(f"\0test-{secrets.token_hex(8)}")
        listener.listen()
        made = [random_name() for _ in range(3)]
        for name in [*made, "another", ""]:
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.bind(f"\0{name}" if name else "")
            client.connect(listener.getsockname())
            stack.enter_context(listener.accept()[0])
        stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        yield made


def _seen() -> list[str]:
    with accepted() as found:
        return sorted(each.name for each in found)


def test_each_connection_is_found_once(names: list[str]) -> None:
    assert _seen() == sorted(names)
    with accepted() as found:
        assert len({each.cookie for each in found}) == len(names)
        # Duplicates of others make none more.
        assert _seen() == sorted(names)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_connection_that_cannot_be_looked_at_is_not_left_out(
    names: list[str], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Of two with one name the other one would be believed."""

    def failing(_descriptor: int, _command: int, _argument: int) -> int:
        raise OSError(number, "no")

    monkeypatch.setattr(fcntl, "fcntl", failing)
    with pytest.raises(OSError, match="no"), accepted():
        pass


def test_a_descriptor_that_another_thread_reuses_is_judged_by_what_it_is_now(
    names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at its name and the duplicate it becomes another connection."""
    duplicate = fcntl.fcntl
    ours, other = socket.socketpair()

    def reused(descriptor: int, command: int, argument: int) -> int:
        return duplicate(ours.fileno(), command, argument)

    with ours, other:
        monkeypatch.setattr(fcntl, "fcntl", reused)
        assert _seen() == []


@pytest.mark.parametrize(
    ("peer", "name"),
    [
        (f"unix-abstract:meshkey-{'0a' * 16}", f"meshkey-{'0a' * 16}"),
        (f"unix-abstract:meshkey-proxy-{'0a' * 16}", f"meshkey-proxy-{'0a' * 16}"),
        (f"unix:meshkey-{'0a' * 16}", None),
        (f"unix:/unix-abstract:meshkey-{'0a' * 16}", None),
        (f"meshkey-{'0a' * 16}", None),
        (f"unix-abstract:unix-abstract:meshkey-{'0a' * 16}", None),
        (f"unix-abstract:meshkey-{'0a' * 16}\n", None),
        (f"unix-abstract:meshkey-{'0a' * 16}%00", None),
        (f"unix-abstract:meshkey-{'0A' * 16}", None),
        (f"unix-abstract:meshkey-{'0a' * 15}", None),
        ("unix:", None),
        ("ipv4:127.0.0.1:1", None),
        ("", None),
    ],
)
def test_which_texts_of_grpcs_are_names_of_ours(peer: str, name: str | None) -> None:
    assert name_in(peer) == name


@given(st.text())
def test_no_other_text_is(text: str) -> None:
    assert name_in(text) is None
    assert name_in(f"unix-abstract:{text}") is None
