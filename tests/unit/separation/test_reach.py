"""Secrets: callers neither read them nor replace them, as far as owners and modes say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sidecar.errors import ConfigurationError
from sidecar.separation.reach import Caller, require_out_of_reach
from tests.unit.separation.tree import CALLER, CALLERS, OURS, ROOT, Entry, Tree

_PIN = Path("/etc/meshkey/pin")
_STORE = Path("/var/lib/meshkey/tokens")
_ENVOY = Caller("caller envoy", CALLER, frozenset({CALLERS}))
_ANYBODY = Caller("group envoy of signer.group", None, frozenset({CALLERS}))


def _require(path: Path, entries: dict[str, Entry], caller: Caller = _ENVOY) -> None:
    tree = Tree(entries, files=(str(_PIN),))
    require_out_of_reach(path, "token.pin_file", caller, tree.look)


@pytest.mark.parametrize("caller", [_ENVOY, _ANYBODY])
def test_what_is_closed_is_out_of_reach(caller: Caller) -> None:
    _require(_PIN, {str(_PIN): (0o400, OURS, OURS)}, caller)
    _require(_STORE, {str(_STORE): (0o700, OURS, OURS)}, caller)
    # Of another group, which it is not in.
    _require(_STORE, {str(_STORE): (0o770, OURS, OURS)}, caller)


@pytest.mark.parametrize(
    ("mode", "group"), [(0o404, OURS), (0o402, OURS), (0o440, CALLERS), (0o420, CALLERS)]
)
@pytest.mark.parametrize("caller", [_ENVOY, _ANYBODY])
def test_a_file_that_a_caller_may_read_or_write_is_refused(
    mode: int, group: int, caller: Caller
) -> None:
    with pytest.raises(ConfigurationError, match=rf"{caller.name} can reach .*: chmod 0400"):
        _require(_PIN, {str(_PIN): (mode, OURS, group)}, caller)


@pytest.mark.parametrize("mode", [0o710, 0o720, 0o740, 0o755])
def test_a_directory_that_a_caller_may_list_write_or_enter_is_refused(mode: int) -> None:
    with pytest.raises(ConfigurationError, match=r"caller envoy can reach .*: chmod 0700"):
        _require(_STORE, {str(_STORE): (mode, OURS, CALLERS)})


def test_the_first_class_that_a_caller_is_in_decides() -> None:
    # Its group may not what everybody else may.
    _require(_STORE, {str(_STORE): (0o705, OURS, CALLERS)})
    with pytest.raises(ConfigurationError, match="can reach"):
        _require(_STORE, {str(_STORE): (0o705, OURS, OURS)})


def test_behind_a_closed_directory_nothing_is_in_reach() -> None:
    closed: dict[str, Entry] = {
        "/var/lib/meshkey": (0o700, OURS, OURS),
        str(_STORE): (0o777, OURS, CALLERS),
    }
    _require(_STORE, closed)
    closed["/var/lib/meshkey"] = (0o710, OURS, CALLERS)
    with pytest.raises(ConfigurationError, match="can reach /var/lib/meshkey/tokens"):
        _require(_STORE, closed)


@pytest.mark.parametrize("owned", ["/var/lib", "/var/lib/meshkey", str(_STORE)])
def test_what_a_caller_owns_it_can_open_however_closed_it_is(owned: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{owned} belongs to user {CALLER}"):
        _require(_STORE, {str(_STORE): (0o700, OURS, OURS), owned: (0o700, CALLER, ROOT)})


@pytest.mark.parametrize("mode", [0o777, 0o757, 0o773, 0o730])
def test_what_is_in_a_directory_that_a_caller_may_write_can_be_replaced(mode: int) -> None:
    replaceable: dict[str, Entry] = {
        "/var/lib/meshkey": (mode, ROOT, CALLERS if mode == 0o730 else ROOT),
        str(_STORE): (0o700, OURS, OURS),
    }
    with pytest.raises(ConfigurationError, match=r"can write /var/lib/meshkey, .* and replace"):
        _require(_STORE, replaceable)
    replaceable["/var/lib/meshkey"] = (mode | 0o1000, ROOT, ROOT)
    _require(_STORE, replaceable)


def test_what_is_not_there_yet_is_made_by_us_unless_a_caller_could_be_first() -> None:
    def look(path: Path) -> os.stat_result:
        if path == _STORE:
            raise FileNotFoundError
        return tree.look(path)

    tree = Tree({"/var/lib/meshkey": (0o755, OURS, OURS)})
    require_out_of_reach(_STORE, "identity.state", _ENVOY, look)
    tree = Tree({"/var/lib/meshkey": (0o777, OURS, OURS)})
    with pytest.raises(ConfigurationError, match="and replace what is below"):
        require_out_of_reach(_STORE, "identity.state", _ENVOY, look)
