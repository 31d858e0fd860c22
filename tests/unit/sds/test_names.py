"""What a requested name means."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import UnknownSecret
from sidecar.sds.names import (
    CertificateOf,
    EveryDomainOf,
    Meaning,
    RootsInFile,
    RootsOf,
    RootsOfDomain,
    RootValidator,
    meaning,
    shown,
)

ALLOWED = Path("/etc/roots/mesh.pem")
FILES = frozenset({ALLOWED})


def meant(name: str, root_validator: RootValidator = RootValidator.TRUSTED_CA) -> Meaning:
    return meaning(name, root_validator, FILES)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("default", CertificateOf("default")),
        ("ROOTCA", RootsOf("default")),
        ("ALL", EveryDomainOf("default")),
        ("spiffe://other.mesh", RootsOfDomain("default", "other.mesh")),
        ("sds://edge", CertificateOf("edge")),
        ("sds://edge-cacert", RootsOf("edge")),
        ("sds://edge-cacert-cacert", RootsOf("edge-cacert")),
        ("file-root:/etc/roots/mesh.pem", RootsInFile(ALLOWED)),
    ],
)
def test_a_name_has_one_meaning(name: str, expected: Meaning) -> None:
    assert meant(name) == expected


def test_the_setting_has_the_roots_checked_by_trust_domain() -> None:
    assert meant("ROOTCA", RootValidator.SPIFFE) == EveryDomainOf("default")
    assert meant("default", RootValidator.SPIFFE) == CertificateOf("default")
    assert meant("sds://edge-cacert", RootValidator.SPIFFE) == RootsOf("edge")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Default",
        "rootca",
        "default ",
        "*",
        "spiffe://",
        "spiffe://other.mesh/ns/x",
        "sds://",
        "sds://-cacert",
        "kubernetes://edge",
        "file-root:",
        "file-root:system",
    ],
)
def test_any_other_name_is_unknown(name: str) -> None:
    with pytest.raises(UnknownSecret, match="no secret"):
        meant(name)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/shadow",
        "/etc/roots",
        "/etc/roots/mesh.pem/",
        "/etc/roots/./mesh.pem",
        "/etc/roots//mesh.pem",
        "/etc/roots/../roots/mesh.pem",
        "etc/roots/mesh.pem",
        "/etc/roots/mesh.pem\0",
        " /etc/roots/mesh.pem",
    ],
)
def test_no_file_is_named_but_a_configured_one(path: str) -> None:
    with pytest.raises(UnknownSecret, match="allows no such file"):
        meant(f"file-root:{path}")


def test_who_asks_for_a_key_in_a_file_is_told_why_not() -> None:
    with pytest.raises(UnknownSecret, match="keys in files are not served"):
        meant("file-cert:/cert.pem~/key.pem")


@given(st.text())
def test_every_text_has_a_meaning_or_is_unknown(text: str) -> None:
    for prefix in ("", "spiffe://", "sds://", "file-root:", "file-cert:"):
        with suppress(UnknownSecret):
            assert meant(prefix + text)


def test_a_name_in_a_message_is_printable_and_short() -> None:
    assert shown("a\nb\x1b[31m\u202e") == r"'a\nb\x1b[31m\u202e'"
    assert len(shown("x" * 2048)) < 120
