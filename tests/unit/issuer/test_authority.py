"""The local CA: what it signs, and how it takes up its root."""

from __future__ import annotations

import os
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.chain import verified_chain
from sidecar.core.csr import build_csr
from sidecar.core.spiffe import SpiffeId
from sidecar.errors import CsrRefused, StartFailed
from sidecar.issuer.authority import LocalIssuer, open_issuer, private_key_of
from tests.fakes.token import FakeToken
from tests.fixtures import certificates
from tests.fixtures.clock import START
from tests.fixtures.requests import ALGORITHM

ID = SpiffeId.parse("spiffe://test.mesh/ns/test/sa/web")
DAY = timedelta(days=1)


@pytest.fixture
def ca_token() -> FakeToken:
    return FakeToken("ca")


@pytest.fixture
def issuer(ca_token: FakeToken, tmp_path: Path) -> LocalIssuer:
    return open_issuer(ca_token, ALGORITHM, "test.mesh", tmp_path / "root.pem", START)


def _root(tmp_path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((tmp_path / "root.pem").read_bytes())


def _csr(spiffe_id: SpiffeId = ID) -> bytes:
    workloads = FakeToken()
    return build_csr(spiffe_id, private_key_of(workloads, workloads.generate(ALGORITHM, "web")))


def test_what_is_issued_passes_the_checks_of_whoever_asked(
    issuer: LocalIssuer, tmp_path: Path
) -> None:
    workloads = FakeToken()
    key = workloads.generate(ALGORITHM, "web")
    answer = issuer.issue(
        build_csr(ID, private_key_of(workloads, key)), timedelta(minutes=20), DAY, START
    )
    chain = verified_chain(
        answer, public_key=key.public_key, spiffe_id=ID, roots=[_root(tmp_path)], now=START
    )
    assert chain.not_before == START - timedelta(minutes=2)
    assert chain.not_after == START + timedelta(minutes=20)
    assert len(answer) == 2


@pytest.mark.parametrize(
    ("wished", "given_"),
    [
        (timedelta(minutes=5), timedelta(minutes=5)),
        (timedelta(hours=2), timedelta(hours=1)),
        (timedelta(0), timedelta(seconds=10)),
        (timedelta(seconds=10**9), timedelta(hours=1)),
    ],
)
def test_a_lifetime_is_cut_to_what_is_allowed(
    issuer: LocalIssuer, wished: timedelta, given_: timedelta
) -> None:
    leaf, _root = issuer.issue(_csr(), wished, timedelta(hours=1), START)
    assert x509.load_der_x509_certificate(leaf).not_valid_after_utc == START + given_


def test_no_certificate_outlives_the_root(issuer: LocalIssuer, tmp_path: Path) -> None:
    end = _root(tmp_path).not_valid_after_utc
    leaf, _ = issuer.issue(_csr(), DAY, DAY, end - timedelta(minutes=1))
    assert x509.load_der_x509_certificate(leaf).not_valid_after_utc == end


def test_every_certificate_has_its_own_serial_number(issuer: LocalIssuer) -> None:
    csr = _csr()
    leaves = [issuer.issue(csr, DAY, DAY, START)[0] for _ in range(20)]
    assert len({x509.load_der_x509_certificate(leaf).serial_number for leaf in leaves}) == 20


@pytest.mark.parametrize(
    "foreign", ["spiffe://other.mesh/web", "spiffe://test.mesh.evil/web", "spiffe://test/web"]
)
def test_another_trust_domain_is_refused(issuer: LocalIssuer, foreign: str) -> None:
    with pytest.raises(CsrRefused, match=r"is not in trust domain test\.mesh"):
        issuer.issue(_csr(SpiffeId.parse(foreign)), DAY, DAY, START)


def test_what_is_no_csr_of_ours_is_refused_before_the_token_signs(
    issuer: LocalIssuer, ca_token: FakeToken
) -> None:
    before = ca_token.signatures
    for wrong in (b"", b"garbage", certificates.root().der, _csr()[:-1]):
        with pytest.raises(CsrRefused):
            issuer.issue(wrong, DAY, DAY, START)
    assert ca_token.signatures == before


@settings(max_examples=100)
@given(st.data())
def test_a_damaged_csr_is_refused_or_changes_nothing(data: st.DataObject) -> None:
    issuer = LocalIssuer(_TOKEN, _KEY, certificates.root().certificate, "test.mesh")
    changed = bytearray(_DAMAGED)
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        leaf, _ = issuer.issue(bytes(changed), DAY, DAY, START)
    except CsrRefused:
        return
    names = x509.load_der_x509_certificate(leaf).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert list(names.value) == [x509.UniformResourceIdentifier(str(ID))]


_TOKEN = FakeToken("ca")
_KEY = _TOKEN.generate(ALGORITHM, "ca")
_DAMAGED = _csr()


def test_the_root_is_a_ca_for_leaves_only(issuer: LocalIssuer, tmp_path: Path) -> None:
    root = _root(tmp_path)
    constraints = root.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    usage = root.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_cert_sign
    assert not usage.digital_signature
    root.verify_directly_issued_by(root)


def test_a_root_is_taken_up_again_with_its_key(ca_token: FakeToken, tmp_path: Path) -> None:
    open_issuer(ca_token, ALGORITHM, "test.mesh", tmp_path / "root.pem", START)
    before = (tmp_path / "root.pem").read_bytes()
    open_issuer(ca_token, ALGORITHM, "test.mesh", tmp_path / "root.pem", START + 30 * DAY)
    assert (tmp_path / "root.pem").read_bytes() == before
    assert len(ca_token.keys()) == 1


@pytest.mark.parametrize("lost", ["file", "key", "validity", "trust domain"])
def test_without_the_old_root_a_new_ca_is_founded(
    ca_token: FakeToken, tmp_path: Path, lost: str
) -> None:
    file = tmp_path / "root.pem"
    open_issuer(ca_token, ALGORITHM, "test.mesh", file, START)
    before, now, domain = file.read_bytes(), START, "test.mesh"
    if lost == "file":
        file.unlink()
    elif lost == "key":
        ca_token.destroy(ca_token.keys()[0].id)
    elif lost == "validity":
        now += 366 * DAY
    else:
        domain = "other.mesh"
    issuer = open_issuer(ca_token, ALGORITHM, domain, file, now)
    assert file.read_bytes() != before
    assert issuer.issue(_csr(SpiffeId(domain, "/web")), DAY, DAY, now)


def test_the_root_can_be_read_by_everyone_whatever_the_umask(
    ca_token: FakeToken, tmp_path: Path
) -> None:
    before = os.umask(0o077)
    try:
        open_issuer(ca_token, ALGORITHM, "test.mesh", tmp_path / "root.pem", START)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "root.pem").stat().st_mode) == 0o644
    assert [file.name for file in tmp_path.iterdir()] == ["root.pem"]


def test_a_root_file_that_is_something_else_is_left_alone(
    ca_token: FakeToken, tmp_path: Path
) -> None:
    file = tmp_path / "root.pem"
    file.write_text("precious")
    with pytest.raises(StartFailed, match="holds no certificate; move it away"):
        open_issuer(ca_token, ALGORITHM, "test.mesh", file, START)
    assert file.read_text() == "precious"


def test_a_root_file_that_cannot_be_read_or_written_is_named(
    ca_token: FakeToken, tmp_path: Path
) -> None:
    with pytest.raises(StartFailed, match="No such file"):
        open_issuer(ca_token, ALGORITHM, "test.mesh", tmp_path / "gone" / "root.pem", START)
    with pytest.raises(StartFailed, match="Is a directory"):
        open_issuer(ca_token, ALGORITHM, "test.mesh", tmp_path, START)


def test_a_link_that_somebody_planted_for_the_root_is_not_followed(
    ca_token: FakeToken, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / ".root.pem.new").symlink_to(victim)
    open_issuer(ca_token, ALGORITHM, "test.mesh", tmp_path / "root.pem", START)
    assert victim.read_bytes() == b"precious"
