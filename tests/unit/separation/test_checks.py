"""What a start insists on, for a whole configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from sidecar.config.load import parse
from sidecar.errors import ConfigurationError, MeshkeyError
from sidecar.separation.checks import Process, checks
from sidecar.separation.places import secrets

# Numbers that have no name on any machine.
_CALLER, _GROUP = 3_999_999_991, 3_999_999_993
_OURS = Process(os.geteuid(), {os.getegid()})


@pytest.fixture
def document(short_dir: Path) -> dict[str, Any]:
    """Everything that has a place, and each where it belongs."""
    for name, mode in (("run", 0o755), ("private", 0o700), ("store", 0o700)):
        (short_dir / name).mkdir(mode=mode)
    # Callers must be able to come here.
    short_dir.chmod(0o755)
    (short_dir / "pin").touch(mode=0o400)
    (short_dir / "softhsm2.conf").write_text(f"directories.tokendir = {short_dir}/store\n")
    run, private = short_dir / "run", short_dir / "private"
    identity = {"spiffe_id": "spiffe://test.mesh/web", "trust_bundle": "/roots.pem"}
    gateway = {**identity, "socket": f"{run}/shop", "state": f"{private}/shop"}
    return {
        "token": {"label": "mesh", "pin_file": f"{short_dir}/pin", "state": f"{private}/pins"},
        "identity": {**identity, "state": f"{private}/state"},
        "gateway": {"shop": gateway},
        "ca": {"socket": "/run/ca"},
        "caller": [
            {
                "name": "envoy",
                "uid": _CALLER,
                "gid": _GROUP,
                "identities": ["default"],
                "purposes": ["tls13-server"],
                "bearer_subject": "envoy",
            }
        ],
        "signer": {"socket": f"{run}/signer"},
        "sds": {"socket": f"{run}/sds"},
        "admin": {"socket": f"{private}/admin", "read_only": f"{run}/status"},
        "metrics": {"socket": f"{run}/metrics"},
        "audit": {"directory": f"{private}/audit"},
        "bearer": {
            "jwks": f"{run}/issuer",
            "revoked": f"{run}/revoked",
            "audience": "meshkey",
        },
        "deny_list": {
            "file": f"{run}/list",
            "key": f"{run}/keys",
            "state": f"{private}/deny",
        },
    }


def _said(document: dict[str, Any], process: Process = _OURS) -> dict[str, str]:
    """By check, what it says or raises."""
    token = document["token"]
    environment = {"SOFTHSM2_CONF": str(Path(token["pin_file"]).with_name("softhsm2.conf"))}
    said = {}
    for name, check in checks(parse(document, {}), process, environment):
        try:
            check()
            said[name] = "ok"
        except MeshkeyError as error:
            said[name] = str(error)
    return said


def test_every_place_is_looked_at_and_right(document: dict[str, Any]) -> None:
    assert _said(document) == dict.fromkeys(
        [
            "signer.socket",
            "gateway.shop.socket",
            "sds.socket",
            "admin.read_only",
            "metrics.socket",
            "admin.socket",
            "token.pin_file: out of callers' reach",
            "token.state: out of callers' reach",
            "the token's store: out of callers' reach",
            "identity.state: out of callers' reach",
            "gateway.shop.state: out of callers' reach",
            "deny_list.state: out of callers' reach",
            "audit.directory: out of callers' reach",
            "bearer.jwks: not to be written by callers",
            "bearer.revoked: not to be written by callers",
            "deny_list.key: not to be written by callers",
            "caller envoy",
        ],
        "ok",
    )


@pytest.mark.parametrize("setting", ["bearer.jwks", "bearer.revoked", "deny_list.key"])
def test_who_may_write_what_decides_about_him_is_refused(
    document: dict[str, Any], setting: str
) -> None:
    section, name = setting.split(".")
    place = Path(document[section][name])
    check = f"{setting}: not to be written by callers"
    place.touch()
    place.chmod(0o644)
    assert _said(document)[check] == "ok"
    place.chmod(0o646)
    said = _said(document)[check]
    assert said == f"{setting}: caller envoy can write {place}, mode 0646: chmod go-w {place}"
    place.chmod(0o644)
    place.parent.chmod(0o757)
    assert "and replace what is below" in _said(document)[check]


def test_no_place_is_looked_at_twice(document: dict[str, Any]) -> None:
    places = list(secrets(parse(document, {}), {}))
    assert len(places) == len(set(places))


def test_a_sealed_pins_files_are_looked_at(document: dict[str, Any], short_dir: Path) -> None:
    del document["token"]["pin_file"]
    document["token"]["pin_sealed"] = str(short_dir / "sealed")
    (short_dir / "sealed.pub").touch(mode=0o400)
    (short_dir / "sealed.priv").touch(mode=0o404)
    said = [
        str(error)
        for name, check in checks(parse(document, {}), _OURS, {})
        if name.startswith("token.pin_sealed") and (error := _error(check))
    ]
    assert len(said) == 1
    assert "sealed.priv, mode 0404" in said[0]


def _error(check: Any) -> MeshkeyError | None:
    try:
        check()
    except MeshkeyError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("place", "mode", "check", "said"),
    [
        ("run", 0o777, "signer.socket", "run can be written by everybody"),
        ("run", 0o777, "sds.socket", "run can be written by everybody"),
        ("run", 0o777, "gateway.shop.socket", "run can be written by everybody"),
        ("run", 0o777, "metrics.socket", "run can be written by everybody"),
        ("run", 0o777, "admin.read_only", "run can be written by everybody"),
        ("private", 0o711, "admin.socket", "private is open to others"),
        ("pin", 0o444, "token.pin_file: out of callers' reach", "caller envoy can reach"),
        ("store", 0o755, "the token's store: out of callers' reach", "caller envoy can reach"),
        ("private", 0o777, "audit.directory: out of callers' reach", "caller envoy can write"),
        ("private", 0o777, "deny_list.state: out of callers' reach", "caller envoy can write"),
        ("private", 0o777, "identity.state: out of callers' reach", "caller envoy can write"),
        ("private", 0o777, "token.state: out of callers' reach", "caller envoy can write"),
    ],
)
def test_a_place_that_is_open_is_named(
    document: dict[str, Any], short_dir: Path, place: str, mode: int, check: str, said: str
) -> None:
    (short_dir / place).chmod(mode)
    assert said in _said(document)[check]


def test_another_modules_store_is_not_softhsms(document: dict[str, Any], short_dir: Path) -> None:
    (short_dir / "store").chmod(0o755)
    document["token"]["profile"] = "generic"
    assert "the token's store: out of callers' reach" not in _said(document)


def test_the_group_of_the_sockets_is_kept_out_too(
    document: dict[str, Any], short_dir: Path
) -> None:
    document["caller"] = []
    del document["bearer"]
    document["signer"]["group"] = os.getegid()
    (short_dir / "store").chmod(0o750)
    said = _said(document)
    assert said["signer.group"] == "ok"
    assert "of signer.group can reach" in said["the token's store: out of callers' reach"]


def test_whoever_is_not_in_the_group_cannot_give_it_a_socket(document: dict[str, Any]) -> None:
    document["signer"]["group"] = _GROUP
    said = _said(document, Process(_CALLER - 1, {1}))["signer.group"]
    assert f"is not in group {_GROUP}: usermod -aG group {_GROUP}" in said
    assert _said(document, Process(_CALLER - 1, {1, _GROUP}))["signer.group"] == "ok"
    assert _said(document, Process(0, {0}))["signer.group"] == "ok"


@pytest.mark.parametrize(
    ("ours", "caller", "said"),
    [
        (_CALLER, _CALLER, "is the sidecar's own user"),
        (0, 0, "is the sidecar's own user"),
        (_CALLER, 0, "root has more than any rule gives"),
    ],
)
def test_neither_the_sidecars_own_user_nor_root_is_a_caller(
    document: dict[str, Any], ours: int, caller: int, said: str
) -> None:
    document["caller"][0]["uid"] = caller
    process = Process(ours, {1})
    found = _said(document, process)["caller envoy"]
    assert said in found
    assert "signer.allow_own_user" in found
    document["signer"]["allow_own_user"] = True
    assert "caller envoy" not in _said(document, process)


def test_an_unsafe_start_is_an_error_of_the_configuration(
    document: dict[str, Any], short_dir: Path
) -> None:
    (short_dir / "run").chmod(0o777)
    ((_, check),) = [c for c in checks(parse(document, {}), _OURS, {}) if c[0] == "sds.socket"]
    with pytest.raises(ConfigurationError):
        check()
