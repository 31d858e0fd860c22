"""[deny_list]."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sidecar.config.digest import digest
from sidecar.config.load import parse
from sidecar.core.deny_list import WhenStale
from sidecar.errors import ConfigurationError

_SECTION = {"file": "/deny/list", "key": "/deny/keys.pem", "state": "/state"}
_TOKEN = {"label": "mesh", "pin_file": "/pin"}


def _parsed(environment: dict[str, str] | None = None, **changed: Any) -> Any:
    section = {k: v for k, v in {**_SECTION, **changed}.items() if v}
    return parse({"token": _TOKEN, "deny_list": section}, environment or {})


def test_stale_lists_are_kept_by_default() -> None:
    section = _parsed().deny_list
    assert (section.file, section.key) == (Path("/deny/list"), Path("/deny/keys.pem"))
    assert (section.state, section.stale) == (Path("/state"), WhenStale.KEEP)
    assert _parsed(stale="refuse").deny_list.stale is WhenStale.REFUSE
    assert parse({"token": _TOKEN}, {}).deny_list is None


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"file": None}, "deny_list.file is missing"),
        ({"key": None}, "deny_list.key is missing"),
        ({"state": None}, "deny_list.state is missing"),
        ({"state": "state"}, "deny_list.state: an absolute path"),
        ({"stale": "sign"}, "deny_list.stale: one of keep, refuse is needed"),
        ({"keys": "/k"}, "unknown setting deny_list.keys"),
    ],
)
def test_what_is_wrong_is_said(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        _parsed(**changed)


def test_the_environment_overrides_and_its_mistakes_are_found() -> None:
    assert _parsed({"MESHKEY_DENY_LIST_STALE": "refuse"}).deny_list.stale is WhenStale.REFUSE
    for wrong in ("MESHKEY_DENY_LIST_STAIL", "MESHKEY_DENY_LIST"):
        with pytest.raises(ConfigurationError, match=f"in the environment: {wrong}"):
            _parsed({wrong: "refuse"})


def test_it_is_a_part_of_the_configurations_hash() -> None:
    assert digest(_parsed()) != digest(_parsed(stale="refuse"))
    assert digest(_parsed()) == digest(_parsed(stale="keep"))
