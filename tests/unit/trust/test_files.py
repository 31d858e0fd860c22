"""Roots from files: all of one moment, or an error that says what to do."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sidecar.core.trust import TrustBundle
from sidecar.errors import CertificateRefused, TrustUnavailable
from sidecar.trust.base import TrustSource
from sidecar.trust.pem_file import PemFile
from sidecar.trust.root_file import MOST_BYTES
from sidecar.trust.spiffe_bundle_file import SpiffeBundleFile
from tests.fixtures import certificates
from tests.fixtures.certificates import Signed
from tests.fixtures.spiffe_bundles import document, entry

DOMAIN = "demo.mesh"
ONE, TWO = certificates.root("one"), certificates.root("two")


def _pem(*roots: Signed) -> bytes:
    return b"".join(root.pem for root in roots)


def _document(*roots: Signed) -> bytes:
    return document(*map(entry, roots))


KINDS = pytest.mark.parametrize(
    ("kind", "content"),
    [(PemFile, _pem), (SpiffeBundleFile, _document)],
    ids=["PEM", "SPIFFE bundle"],
)
Kind = Callable[[str, Path], TrustSource]
Content = Callable[..., bytes]


def _load(source: TrustSource) -> TrustBundle:
    return asyncio.run(source.load())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "roots"


@KINDS
def test_the_roots_are_those_in_the_file_now(kind: Kind, content: Content, path: Path) -> None:
    source = kind(DOMAIN, path)
    path.write_bytes(content(ONE))
    first = _load(source)
    path.write_bytes(content(TWO, ONE))
    assert (first.trust_domain, first.der()) == (DOMAIN, [ONE.der])
    assert _load(source).der() == [TWO.der, ONE.der]


@KINDS
def test_a_mounted_config_map_is_followed_through_its_swap(
    kind: Kind, content: Content, tmp_path: Path
) -> None:
    """As the kubelet does it: file -> ..data/file, and ..data is replaced by a rename."""
    for name, roots in (("..1", [ONE]), ("..2", [TWO])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "roots").write_bytes(content(*roots))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "roots").symlink_to("..data/roots")
    source = kind(DOMAIN, tmp_path / "roots")
    assert _load(source).der() == [ONE.der]
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").replace(tmp_path / "..data")
    assert _load(source).der() == [TWO.der]


@KINDS
def test_a_swap_while_it_is_read_gives_the_old_or_the_new(
    kind: Kind, content: Content, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(content(ONE))
    opened = os.open

    def swap_after_opening(*arguments: int | str, **options: int) -> int:
        descriptor = opened(*arguments, **options)  # type: ignore[arg-type]
        fresh = path.with_name("fresh")
        fresh.write_bytes(content(TWO, ONE))
        fresh.replace(path)
        return descriptor

    with monkeypatch.context() as patched:
        patched.setattr("sidecar.whole_file.os.open", swap_after_opening)
        before = _load(kind(DOMAIN, path))
    assert before.der() == [ONE.der]
    assert _load(kind(DOMAIN, path)).der() == [TWO.der, ONE.der]


@KINDS
def test_a_missing_file_is_unavailable_and_says_what_belongs_there(
    kind: Kind, content: Content, path: Path
) -> None:
    with pytest.raises(TrustUnavailable, match=r"/roots: No such file.*put the trust domain's"):
        _load(kind(DOMAIN, path))


@KINDS
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["directory", "FIFO"])
def test_what_is_no_regular_file_is_unavailable_and_holds_nothing_up(
    kind: Kind, content: Content, path: Path, make: Callable[[Path], None]
) -> None:
    make(path)
    with pytest.raises(TrustUnavailable, match=r"no regular file|Is a directory"):
        _load(kind(DOMAIN, path))


@KINDS
def test_an_unreadable_file_is_unavailable(
    kind: Kind, content: Content, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("sidecar.whole_file.os.open", denied)
    with pytest.raises(TrustUnavailable, match=r"/roots: Permission denied"):
        _load(kind(DOMAIN, path))


@KINDS
def test_a_file_that_is_half_written_is_refused_by_its_name(
    kind: Kind, content: Content, path: Path
) -> None:
    for text in (b"", content(ONE)[:200], content(ONE, TWO)[:-30]):
        path.write_bytes(text)
        with pytest.raises(CertificateRefused, match=r"trust bundle .*/roots: the "):
            _load(kind(DOMAIN, path))


@KINDS
def test_a_file_of_more_than_a_mebibyte_is_refused(
    kind: Kind, content: Content, path: Path
) -> None:
    text = content(ONE)
    path.write_bytes(text + b"\n" * (MOST_BYTES - len(text)))
    assert _load(kind(DOMAIN, path)).der() == [ONE.der]
    path.write_bytes(text + b"\n" * (MOST_BYTES - len(text) + 1))
    with pytest.raises(CertificateRefused, match="larger than 1048576 bytes"):
        _load(kind(DOMAIN, path))


def test_a_pem_file_is_looked_at_every_second(path: Path) -> None:
    assert PemFile(DOMAIN, path).interval == timedelta(seconds=1)


@pytest.mark.parametrize(("hint", "seconds"), [(None, 1), (0, 1), (20, 20), (2_419_200, 60)])
def test_a_bundle_documents_hint_is_followed_within_bounds(
    path: Path, hint: int | None, seconds: int
) -> None:
    source = SpiffeBundleFile(DOMAIN, path)
    assert source.interval == timedelta(seconds=1)
    path.write_bytes(document(entry(ONE), spiffe_refresh_hint=hint))
    _load(source)
    assert source.interval == timedelta(seconds=seconds)


def test_a_document_that_goes_back_is_used_and_said_so(path: Path) -> None:
    source = SpiffeBundleFile(DOMAIN, path)
    with capture_logs() as logs:
        for sequence, root in ((5, ONE), (6, TWO), (5, ONE)):
            path.write_bytes(document(entry(root), spiffe_sequence=sequence))
            read = _load(source)
    assert read.der() == [ONE.der]
    assert [(line["event"], line["before"], line["now"]) for line in logs] == [
        ("trust bundle went back to an older sequence", 6, 5)
    ]
