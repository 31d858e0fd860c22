"""From a file and the environment to settings, and one clear line for everything wrong."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sidecar.config.load import load, parse
from sidecar.config.settings import SECTIONS, Settings
from sidecar.core.certificate_verify import Side
from sidecar.core.spiffe import SpiffeId
from sidecar.errors import ConfigurationError

TOKEN: dict[str, Any] = {"label": "mesh", "pin_file": "/etc/meshkey/pin"}
IDENTITY: dict[str, Any] = {
    "spiffe_id": "spiffe://demo.mesh/ns/demo/sa/web",
    "trust_bundle": "/etc/meshkey/roots.pem",
}
SIDECAR: dict[str, Any] = {
    "token": TOKEN,
    "identity": IDENTITY,
    "ca": {"socket": "/run/ca"},
    "signer": {"socket": "/run/signer"},
}
ISSUER: dict[str, Any] = {
    "token": TOKEN,
    "issuer": {"socket": "/run/ca", "trust_domain": "demo.mesh", "root_file": "/run/root.pem"},
}


def _with(section: str, **settings: Any) -> dict[str, Any]:
    return {**SIDECAR, section: {**SIDECAR.get(section, {}), **settings}}


def _parse(document: dict[str, Any], **environment: str) -> Settings:
    return parse(document, environment)


def test_a_process_stays_what_it_is_and_so_do_its_sockets_by_default() -> None:
    settings = _parse(SIDECAR)
    assert settings.process.user is None
    assert settings.signer
    assert (settings.signer.group, settings.signer.allow_own_user) == (None, False)


def test_the_user_is_a_number_or_a_name_also_in_the_environment() -> None:
    assert _parse(_with("process", user="root")).process.user == 0
    assert _parse(SIDECAR, MESHKEY_PROCESS_USER="1337").process.user == 1337
    with pytest.raises(ConfigurationError, match=r"process\.user: there is no user 'nobody here'"):
        _parse(_with("process", user="nobody here"))


def test_a_sidecars_settings_with_their_defaults() -> None:
    settings = _parse(SIDECAR)
    assert settings.token.module == Path("/usr/lib/softhsm/libsofthsm2.so")
    assert (settings.token.threads, settings.token.backlog) == (2, 1024)
    assert settings.identity
    assert settings.identity.spiffe_id == SpiffeId("demo.mesh", "/ns/demo/sa/web")
    assert settings.identity.lifetime == timedelta(minutes=20)
    assert settings.identity.sides == set(Side)
    assert not settings.identity.tls12
    (authority,) = settings.authorities
    assert (authority.kind, authority.name) == ("local", "local")
    assert settings.gateways == {}
    assert [*settings.identities] == ["default"]
    assert settings.signer
    assert settings.issuer is None
    assert settings.admin is None
    assert (settings.log.format, settings.log.level) == ("json", "info")


def test_a_local_cas_settings_with_their_defaults() -> None:
    settings = _parse(ISSUER)
    assert settings.issuer
    assert settings.issuer.trust_domain == "demo.mesh"
    assert settings.issuer.longest == timedelta(hours=24)
    assert settings.identity is None


def test_an_empty_section_is_there_and_misses_its_settings() -> None:
    assert _parse(SIDECAR).admin is None
    with pytest.raises(ConfigurationError, match=r"admin\.socket is missing"):
        _parse({**SIDECAR, "admin": {}})


def test_settings_cannot_be_changed() -> None:
    settings = _parse(SIDECAR)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.token.label = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, r"\[token\] names no token: set token.label or token.uri"),
        ({"token": {"pin_file": "/pin"}}, r"\[token\] names no token"),
        ({**SIDECAR, "tokn": {}}, r"unknown section \[tokn\]; known: token, identity"),
        ({**SIDECAR, "token": "mesh"}, r"token is not a section; write \[token\]"),
        ({**SIDECAR, "signer": []}, r"signer is not a section; write \[signer\]"),
        (_with("token", pin="1234"), "unknown setting token.pin; known: label, uri, pin_file"),
        (_with("token", label=""), "token.label: a text is needed"),
        (_with("token", label=3), "token.label: a text is needed"),
        (_with("token", pin_file="pin"), "token.pin_file: an absolute path is needed"),
        (_with("token", threads=0), "token.threads: a number from 1 to 64 is needed"),
        (_with("token", threads=True), "token.threads: a number"),
        (_with("token", backlog=10**9), "token.backlog: a number from 1 to 65536"),
        (_with("signer", caller_rate=0), "signer.caller_rate: a number from 1 to 1000000"),
        (_with("identity", spiffe_id="web"), "identity.spiffe_id: .* is not a SPIFFE ID"),
        (_with("identity", spiffe_id="spiffe://demo.mesh"), "the path is missing"),
        (_with("identity", lifetime="20"), 'identity.lifetime: a duration is needed, as in "90s"'),
        (_with("identity", lifetime=1200), "identity.lifetime"),
        (_with("identity", sides=[]), "identity.sides: a list of"),
        (_with("identity", sides=[["server"]]), "identity.sides: a list of"),
        (_with("signer", socket="/" + "s" * 107), "signer.socket: a socket's path has at most 107"),
        (_with("ca", socket="ca"), "ca.socket: an absolute path"),
        (_with("log", format="xml"), "log.format: one of json, console is needed"),
        (_with("log", level="trace"), "log.level: one of debug, info, warning, error"),
        (
            {**ISSUER, "issuer": {**ISSUER["issuer"], "trust_domain": "Demo"}},
            "issuer.trust_domain: 'Demo' is not a trust domain",
        ),
        (
            {"token": TOKEN, "issuer": {"socket": "/run/ca", "trust_domain": "a"}},
            "issuer.root_file is missing: where it writes its root certificate",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line_that_names_the_setting(
    document: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message) as refused:
        _parse(document)
    assert "\n" not in str(refused.value)


def test_a_value_of_the_environment_overrides_the_file() -> None:
    settings = _parse(
        SIDECAR,
        MESHKEY_TOKEN_LABEL="other",
        MESHKEY_TOKEN_THREADS="8",
        MESHKEY_TOKEN_PIN_FILE="/run/secrets/pin",
        MESHKEY_IDENTITY_LIFETIME="1h",
        MESHKEY_IDENTITY_SIDES="client",
        MESHKEY_IDENTITY_TLS12="true",
        MESHKEY_LOG_FORMAT="console",
    )
    assert settings.token.label == "other"
    assert settings.token.threads == 8
    assert settings.token.pin_file == Path("/run/secrets/pin")
    assert settings.identity
    assert settings.identity.lifetime == timedelta(hours=1)
    assert settings.identity.sides == {Side.CLIENT}
    assert settings.identity.tls12
    assert settings.log.format == "console"


def test_a_value_of_the_environment_makes_its_section() -> None:
    assert _parse(SIDECAR, MESHKEY_ADMIN_SOCKET="/run/admin").admin
    settings = parse({}, {"MESHKEY_TOKEN_LABEL": "mesh", "MESHKEY_TOKEN_PIN_FILE": "/pin"})
    assert settings.token.label == "mesh"
    with pytest.raises(ConfigurationError, match=r"identity.trust_bundle is missing"):
        _parse({"token": TOKEN}, MESHKEY_IDENTITY_SPIFFE_ID="spiffe://demo.mesh/web")


@pytest.mark.parametrize(
    "variable", ["MESHKEY_TOKEN_PINS", "MESHKEY_IDENTITY_SPIFFEID", "MESHKEY_SIGNER", "MESHKEY_CA_"]
)
def test_an_unknown_setting_in_the_environment_is_refused(variable: str) -> None:
    with pytest.raises(ConfigurationError, match=f"in the environment: {variable}$"):
        _parse(SIDECAR, **{variable: "x"})


@pytest.mark.parametrize(
    "name", ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_GRPC", "PORT", "PORT_443_TCP_ADDR"]
)
def test_the_links_of_a_kubernetes_service_of_our_name_are_no_settings(name: str) -> None:
    assert _parse(SIDECAR, **{f"MESHKEY_SIGNER_{name}": "10.0.0.1"})


def test_other_variables_are_none_of_our_business() -> None:
    assert _parse(SIDECAR, MESHKEY_CONFIG="/x", PATH="/bin", meshkey_token_pin="x", MESHKEY="")


def test_a_wrong_value_of_the_environment_names_the_setting() -> None:
    with pytest.raises(ConfigurationError, match=r"token.threads: a number from 1 to 64"):
        _parse(SIDECAR, MESHKEY_TOKEN_THREADS="many")


def test_no_error_shows_a_value_that_may_be_a_misplaced_pin() -> None:
    with pytest.raises(ConfigurationError) as refused:
        _parse(_with("token", pin="7x7x7x", pin_file="7x7x7x"))
    assert "7x7x7x" not in str(refused.value)
    with pytest.raises(ConfigurationError) as refused:
        _parse(SIDECAR, MESHKEY_TOKEN_PIN="7x7x7x")
    assert "7x7x7x" not in str(refused.value)


def test_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "meshkey.toml"
    file.write_text('[token]\nlabel = "mesh"\npin_file = "/pin"\n', encoding="utf-8")
    assert load(file, {"MESHKEY_TOKEN_LABEL": "other"}).token.label == "other"


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"[token", "configuration .*meshkey.toml: Expected"), (b"\xff\xfe", "configuration .*utf-8")],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "meshkey.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=message):
        load(file, {})


def test_a_missing_file_and_a_directory_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"configuration .*gone: No such file"):
        load(tmp_path / "gone", {})
    with pytest.raises(ConfigurationError, match="Is a directory"):
        load(tmp_path, {})


def test_every_setting_says_what_it_is() -> None:
    for section, kind in SECTIONS.items():
        for item in dataclasses.fields(kind):
            assert item.metadata["help"], f"{section}.{item.name}"
            assert callable(item.metadata["parse"])
