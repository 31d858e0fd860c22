"""What the doctor says of the files that a sidecar would run on. It asks nobody for that."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sidecar.config.load import parse
from sidecar.config.settings import TokenSettings
from sidecar.doctor.examination import examine
from sidecar.doctor.finding import Finding, Verdict
from sidecar.errors import TokenUnavailable
from sidecar.token.pkcs11 import Pkcs11Token
from tests.fixtures import certificates
from tests.fixtures.clock import START
from tests.fixtures.spiffe_bundles import document, entry

_ROOT = certificates.root()
_DOMAIN = "test.mesh"


@pytest.fixture
def place(short_dir: Path) -> Path:
    """With everything in it that `_document` refers to."""
    (short_dir / "roots.pem").write_bytes(_ROOT.pem)
    (short_dir / "other.json").write_bytes(document(entry(_ROOT)))
    (short_dir / "token").write_text("a.b.c")
    (short_dir / "ca-root.pem").write_bytes(_ROOT.pem)
    (short_dir / "carried").mkdir()
    (short_dir / "state").mkdir(mode=0o700)
    return short_dir


@pytest.fixture(autouse=True)
def _local_ca(place: Path) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place / "ca"))
        yield


def _document(place: Path) -> dict[str, Any]:
    return {
        "token": {"label": "mesh", "pin_file": "/pin"},
        "identity": {
            "spiffe_id": f"spiffe://{_DOMAIN}/web",
            "trust_bundle": str(place / "roots.pem"),
            "state": str(place / "state"),
        },
        "gateway": {
            "shop": {
                "spiffe_id": f"spiffe://{_DOMAIN}/shop",
                "trust_bundle": str(place / "roots.pem"),
                "state": str(place / "new"),
                "ca": ["istio"],
            }
        },
        "trust": [{"trust_domain": "other.mesh", "spiffe_bundle": str(place / "other.json")}],
        "ca": [
            {"socket": str(place / "ca")},
            {
                "kind": "istio",
                "token_file": str(place / "token"),
                "root_file": str(place / "ca-root.pem"),
            },
            {"kind": "file", "directory": str(place / "carried")},
        ],
        "signer": {"socket": str(place / "signer")},
    }


def _no_token(_settings: TokenSettings) -> Pkcs11Token:
    raise TokenUnavailable("no module")


def _findings(document: dict[str, Any]) -> dict[str, Finding]:
    """By check, without the token's, that is not there."""
    found = list(examine(parse(document, {}), _no_token, START))
    assert found[0] == Finding("token", Verdict.FAILURE, "no module")
    by_check = {finding.check: finding for finding in found[1:]}
    assert len(by_check) == len(found) - 1
    return by_check


def test_every_file_that_is_as_it_must_be_is_told(place: Path) -> None:
    found = _findings(_document(place))
    assert {check: finding.detail for check, finding in found.items()} == {
        "identity: trust_bundle": "roots: 1, the last one until 2031-01-01",
        "identity: state": f"{place}/state: private",
        "gateway.shop: trust_bundle": "roots: 1, the last one until 2031-01-01",
        "gateway.shop: state": f"{place}/new: made at the start",
        "trust other.mesh": "roots: 1, the last one until 2031-01-01",
        "ca local: socket": f"{place}/ca",
        "ca istio: token_file": f"{place}/token",
        "ca istio: root_file": f"{place}/ca-root.pem",
        "ca file: directory": f"{place}/carried",
    }
    assert {finding.verdict for finding in found.values()} == {Verdict.OK}
    assert not (place / "new").exists(), "it looks and makes nothing"


def test_directories_that_a_start_could_not_make_are_failures(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = _document(place) | {"audit": {"directory": str(place / "log")}}
    assert _findings(document)["audit.directory"].detail == f"{place}/log: made at the start"
    # Root, who may run the tests, could make any.
    monkeypatch.setattr("os.access", lambda *_: False)
    found = _findings(document)
    for check, mode, name in (
        ("gateway.shop: state", "0700", "new"),
        ("audit.directory", "0750", "log"),
    ):
        assert found[check].verdict is Verdict.FAILURE
        assert found[check].detail.endswith(f"-m {mode} {place}/{name}")
    (place / "log").mkdir(mode=0o777)
    (place / "log").chmod(0o777)
    assert "can be written by others; chmod 0750" in _findings(document)["audit.directory"].detail


def _open(place: Path) -> None:
    (place / "state").chmod(0o755)


def _expired(place: Path) -> None:
    old = certificates.root(at=START - timedelta(days=400), days=365)
    (place / "roots.pem").write_bytes(old.pem)


@pytest.mark.parametrize(
    ("breaks", "check", "verdict", "said"),
    [
        (_open, "identity: state", Verdict.FAILURE, "is open to others; chmod 0700"),
        (_expired, "identity: trust_bundle", Verdict.FAILURE, "every root has expired"),
        (
            lambda place: (place / "roots.pem").unlink(),
            "gateway.shop: trust_bundle",
            Verdict.FAILURE,
            "No such file or directory; put the trust domain's roots there",
        ),
        (
            lambda place: (place / "other.json").write_text("{}"),
            "trust other.mesh",
            Verdict.WARNING,
            "other.json: ",
        ),
        (
            lambda place: (place / "token").unlink(),
            "ca istio: token_file",
            Verdict.FAILURE,
            "No such file or directory; mount the projected service account token there",
        ),
        (
            lambda place: (place / "ca-root.pem").write_text("garbage"),
            "ca istio: root_file",
            Verdict.FAILURE,
            "it must have the root of the CA's own TLS certificate",
        ),
        (
            lambda place: (place / "carried").rmdir(),
            "ca file: directory",
            Verdict.FAILURE,
            "must be a directory that user",
        ),
        (
            lambda place: (place / "ca").unlink(),
            "ca local: socket",
            Verdict.WARNING,
            "nothing serves it yet; start the local CA",
        ),
    ],
)
def test_what_is_wrong_is_told_and_nothing_else_is_blamed(
    place: Path, breaks: Callable[[Path], object], check: str, verdict: Verdict, said: str
) -> None:
    before = _findings(_document(place))
    breaks(place)
    after = _findings(_document(place))
    assert after[check].verdict is verdict
    assert said in after[check].detail
    # The two sections share their roots.
    changed = {each for each in before if before[each] != after[each]} - {check}
    assert changed <= ({f"{s}: trust_bundle" for s in ("identity", "gateway.shop")})
    assert changed == set() or check.endswith("trust_bundle")


def test_the_domain_of_an_identity_must_have_roots(place: Path) -> None:
    document = _document(place)
    del document["gateway"], document["identity"]["trust_bundle"]
    document["trust"] = [{"trust_domain": _DOMAIN, "file": str(place / "gone.pem")}]
    (found,) = [f for f in _findings(document).values() if f.check == f"trust {_DOMAIN}"]
    assert found.verdict is Verdict.FAILURE


def test_a_state_directory_needs_one_above_it(place: Path) -> None:
    document = _document(place)
    document["identity"]["state"] = str(place / "gone" / "state")
    found = _findings(document)["identity: state"]
    assert (found.verdict, found.detail) == (
        Verdict.FAILURE,
        f"{place}/gone is no directory; create it first",
    )


def test_what_is_in_the_cluster_is_not_asked_for_and_its_credentials_are_looked_at(
    place: Path,
) -> None:
    document = _document(place)
    document["trust"] = [{"trust_domain": "other.mesh", "cluster_trust_bundle": "x:y:z"}]
    kubernetes = {"kind": "kubernetes", "signer_name": "a.b/c", "kubeconfig": str(place / "gone")}
    document["ca"].append(kubernetes)
    found = _findings(document)
    assert found["trust other.mesh"].detail == "x:y:z: in the cluster, not asked"
    assert found["ca kubernetes: credentials"].verdict is Verdict.FAILURE
    assert str(place / "gone") in found["ca kubernetes: credentials"].detail


def test_an_issuer_has_none_of_them(place: Path) -> None:
    issuer = {
        "socket": str(place / "ca"),
        "trust_domain": _DOMAIN,
        "root_file": str(place / "root.pem"),
    }
    assert not _findings({"token": {"label": "mesh", "pin_file": "/pin"}, "issuer": issuer})
