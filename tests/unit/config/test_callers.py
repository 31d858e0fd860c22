"""[[caller]] and [bearer]."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sidecar.config.load import parse
from sidecar.config.settings import Settings
from sidecar.core.purpose import SigningPurpose
from sidecar.errors import ConfigurationError

IDENTITY = {"spiffe_id": "spiffe://demo.mesh/web", "trust_bundle": "/roots.pem"}
BASE: dict[str, Any] = {
    "token": {"label": "mesh", "pin_file": "/pin"},
    "identity": IDENTITY,
    "ca": {"socket": "/run/ca"},
    "signer": {"socket": "/run/signer"},
}
ENVOY: dict[str, Any] = {
    "name": "envoy",
    "uid": 101,
    "identities": ["default"],
    "purposes": ["tls13-server", "tls12-client"],
}
BEARER = {"jwks": "/jwks.json", "audience": "meshkey"}
POD = "0f8fad5b-d9cb-469f-a165-70867728950e"


def _parse(**sections: Any) -> Settings:
    return parse({**BASE, **sections}, {})


def _refused(message: str, **sections: Any) -> None:
    with pytest.raises(ConfigurationError, match=message):
        _parse(**sections)


def test_a_rule_says_who_may_have_what_and_asks_for_no_more_than_a_user() -> None:
    (rule,) = _parse(caller=ENVOY).callers
    assert (rule.name, rule.uid, rule.identities) == ("envoy", 101, ("default",))
    assert rule.purposes == {
        SigningPurpose.TLS13_SERVER_CERTIFICATE_VERIFY,
        SigningPurpose.TLS12_CLIENT_CERTIFICATE_VERIFY,
    }
    assert not rule.executables
    others = (rule.gid, rule.pod, rule.cgroup, rule.label, rule.started_within, rule.bearer_subject)
    assert set(others) == {None}


def test_a_rule_may_ask_for_more_points() -> None:
    points = {
        "gid": 102,
        "executables": ["AB" * 32],
        "pod": POD,
        "cgroup": "/system.slice/envoy.service",
        "label": "envoy (enforce)",
        "started_within": "5m",
        "bearer_subject": "envoy",
    }
    settings = _parse(caller=[{**ENVOY, **points}], bearer=BEARER)
    (rule,) = settings.callers
    assert rule.executables == {"ab" * 32}
    assert (rule.gid, rule.pod, rule.started_within) == (102, POD, timedelta(minutes=5))
    assert settings.bearer
    assert (settings.bearer.jwks, settings.bearer.longest) == (
        Path("/jwks.json"),
        timedelta(hours=1),
    )


def test_a_caller_may_follow_an_identity_and_have_nothing_signed() -> None:
    (rule,) = _parse(caller={**ENVOY, "purposes": []}).callers
    assert rule.purposes == frozenset()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"uid": "nobody-of-that-name"}, "caller.uid: there is no user"),
        ({"uid": -1}, "caller.uid: a number from 0"),
        ({"gid": "root"}, "caller.gid: a number from 0"),
        ({"identities": []}, "caller.identities: a list of names is needed"),
        ({"identities": ["shop"]}, "caller 'envoy': there is no identity 'shop'; .*: default"),
        ({"purposes": ["csr"]}, "caller.purposes: a list of tls13-server"),
        ({"executables": ["ab"]}, "caller.executables: a SHA-256 digest has 64"),
        ({"executables": []}, "caller.executables: a list of SHA-256"),
        ({"pod": "envoy"}, "caller.pod: a pod's UID is needed"),
        ({"cgroup": "system.slice"}, "caller.cgroup: a cgroup's path"),
        ({"cgroup": "/"}, "caller.cgroup: a cgroup's path"),
        ({"cgroup": "/a/../b"}, "caller.cgroup: a cgroup's path"),
        ({"cgroup": "/a/"}, "caller.cgroup: a cgroup's path"),
        ({"label": ""}, "caller.label: a text is needed"),
        ({"bearer": True}, "unknown setting caller.bearer"),
    ],
)
def test_a_wrong_rule_is_refused(wrong: dict[str, Any], message: str) -> None:
    _refused(message, caller={**ENVOY, **wrong})


def test_two_rules_have_two_names() -> None:
    _refused("caller.name: 'envoy' is there 2 times", caller=[ENVOY, ENVOY])


def test_tokens_and_rules_that_ask_for_them_need_each_other() -> None:
    _refused("bearer_subject in a .* need each other", caller=ENVOY, bearer=BEARER)
    _refused("need each other", caller={**ENVOY, "bearer_subject": "envoy"})
    _refused("bearer.audience is missing", caller=ENVOY, bearer={"jwks": "/jwks.json"})
