"""Which settings differ, by name and never by value."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from sidecar.config.differences import differences
from sidecar.config.load import parse

_CALLER = {"name": "envoy", "uid": 1, "identities": ["default"], "purposes": ["tls13-server"]}
_DOCUMENT: dict[str, Any] = {
    "token": {"label": "mesh", "pin_file": "/run/pin"},
    "identity": {"spiffe_id": "spiffe://test.mesh/web", "trust_bundle": "/etc/root.pem"},
    "gateway": {"edge": {"spiffe_id": "spiffe://test.mesh/edge", "trust_bundle": "/etc/root.pem"}},
    "ca": {"socket": "/run/ca"},
    "signer": {"socket": "/run/signer"},
    "caller": [_CALLER],
    "log": {"level": "info"},
}


def _changed(section: str, **settings: Any) -> dict[str, Any]:
    document = deepcopy(_DOCUMENT)
    document[section] = {**document.get(section, {}), **settings}
    return document


@pytest.mark.parametrize(
    ("document", "names"),
    [
        (_DOCUMENT, []),
        (_changed("log", level="debug"), ["log.level"]),
        (_changed("log", level="debug", format="console"), ["log.format", "log.level"]),
        (_changed("token", pin_file="/run/other"), ["token.pin_file"]),
        ({**_DOCUMENT, "caller": [{**_CALLER, "uid": 2}]}, ["caller"]),
        ({**_DOCUMENT, "caller": []}, ["caller"]),
        ({**_DOCUMENT, "ca": {"socket": "/run/other"}}, ["ca"]),
        (
            {**_DOCUMENT, "gateway": {"edge": {**_DOCUMENT["gateway"]["edge"], "tls12": True}}},
            ["gateway.edge.tls12"],
        ),
        ({**_DOCUMENT, "gateway": {}}, ["gateway.edge"]),
        ({**_DOCUMENT, "admin": {"socket": "/run/admin"}}, ["admin"]),
    ],
)
def test_each_setting_that_differs_is_named(document: dict[str, Any], names: list[str]) -> None:
    assert differences(parse(_DOCUMENT, {}), parse(document, {})) == names
    assert differences(parse(document, {}), parse(_DOCUMENT, {})) == names
