"""Who may give commands: nobody who has things signed."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from sidecar.callers.admin_door import AdminDoor
from sidecar.callers.credentials import Credentials
from sidecar.errors import CallerRefused

_OURS, _ENVOY, _STRANGER, _ROOT = 990, 1337, 1000, 0


def _lets_in(uid: int, callers: Collection[int], *, allow_own_user: bool = False) -> bool:
    door = AdminDoor(_OURS, callers, allow_own_user=allow_own_user)
    try:
        door(Credentials(uid, uid, 1))
    except CallerRefused:
        return False
    return True


def test_root_and_the_sidecars_own_user_give_commands() -> None:
    assert _lets_in(_ROOT, [_ENVOY])
    assert _lets_in(_OURS, [_ENVOY])


@pytest.mark.parametrize("allow_own_user", [False, True])
@pytest.mark.parametrize("uid", [_ENVOY, _STRANGER])
def test_nobody_else_does(uid: int, allow_own_user: bool) -> None:
    assert not _lets_in(uid, [_ENVOY], allow_own_user=allow_own_user)
    assert not _lets_in(uid, [], allow_own_user=allow_own_user)


@pytest.mark.parametrize("uid", [_OURS, _ROOT])
def test_who_has_things_signed_does_not_either_but_to_evaluate(uid: int) -> None:
    assert not _lets_in(uid, [_ENVOY, uid])
    assert _lets_in(uid, [_ENVOY, uid], allow_own_user=True)


def test_the_rules_may_change() -> None:
    door = AdminDoor(_OURS, [_ENVOY], allow_own_user=False)
    door(Credentials(_ROOT, 0, 1))
    door.replace([_ROOT])
    with pytest.raises(CallerRefused, match=r"a user of whom a \[\[caller\]\] speaks"):
        door(Credentials(_ROOT, 0, 1))
