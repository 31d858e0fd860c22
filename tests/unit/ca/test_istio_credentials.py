"""Token and root files, and headers, right and wrong."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import pytest

from sidecar.ca.istio_credentials import call_headers, read_roots, read_token
from sidecar.errors import AuthorityUnavailable, ConfigurationError
from tests.fixtures import certificates

ROOT, OTHER = certificates.root(), certificates.root("other")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


@pytest.mark.parametrize("content", [b"ab.c-_1", b"ab.c-_1\n", b" \tab.c-_1\r\n\n"])
def test_a_token_is_stripped(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert read_token(path) == "ab.c-_1"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "is empty; mount the projected", id="empty"),
        pytest.param(b" \n", "is empty; mount the projected", id="blank"),
        pytest.param(b"SECRET\nSECRET", "holds no bearer token; mount", id="two lines"),
        pytest.param(b"SECRET SECRET", "holds no bearer token; mount", id="two words"),
        pytest.param(b"SECRET\r\nx-other: 1", "holds no bearer token", id="header"),
        pytest.param(b"SECRET\x00", "holds no bearer token", id="zero byte"),
        pytest.param(b"SECRET\xff", "holds no bearer token", id="no ASCII"),
        pytest.param("SECRETé".encode(), "holds no bearer token", id="UTF-8"),
        pytest.param(b"\xef\xbb\xbfSECRET", "holds no bearer token", id="byte order mark"),
        pytest.param(b"SECRET" * 4000, "is longer than 16384 bytes", id="too long"),
    ],
)
def test_what_is_no_token_is_named_without_its_content(
    path: Path, content: bytes, reason: str
) -> None:
    path.write_bytes(content)
    with pytest.raises(AuthorityUnavailable, match=f"token file {path} {reason}") as refused:
        read_token(path)
    assert "SECRET" not in "".join(traceback.format_exception(refused.value))
    error: BaseException | None = refused.value
    assert error is not None
    assert error.__cause__ is error.__context__ is None


@pytest.mark.timeout(10)
def test_a_pipe_holds_nothing_up(path: Path) -> None:
    os.mkfifo(path)
    for read in (read_token, read_roots):
        with pytest.raises(AuthorityUnavailable, match="cannot be read: it is no regular file"):
            read(path)


def test_files_that_cannot_be_read_are_named(path: Path, tmp_path: Path) -> None:
    with pytest.raises(AuthorityUnavailable, match=f"token file {path} cannot be read: No such"):
        read_token(path)
    with pytest.raises(AuthorityUnavailable, match="cannot be read: Is a directory"):
        read_token(tmp_path)
    with pytest.raises(AuthorityUnavailable, match=f"root file {path} cannot be read: No such"):
        read_roots(path)


def test_roots_are_read_without_the_text_between(path: Path) -> None:
    path.write_bytes(b"first\n" + ROOT.pem + b"second\n" + OTHER.pem)
    assert read_roots(path) == ROOT.pem + OTHER.pem


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"garbage", id="garbage"),
        pytest.param(ROOT.der, id="DER"),
        pytest.param(ROOT.pem + OTHER.pem[:-40], id="half written"),
    ],
)
def test_what_holds_no_roots_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(AuthorityUnavailable, match=f"root file {path} holds no readable PEM"):
        read_roots(path)


def test_a_root_file_without_end_is_not_read_to_its_end(path: Path) -> None:
    path.write_bytes(ROOT.pem * 3000)
    with pytest.raises(AuthorityUnavailable, match="longer than 1048576 bytes"):
        read_roots(path)


def test_headers_are_lowered_and_kept_in_order() -> None:
    headers = call_headers("c1", {"FOO": "=a b", "X-Mesh.Id_2": "~"})
    assert headers == (("clusterid", "c1"), ("foo", "=a b"), ("x-mesh.id_2", "~"))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "other characters"),
        ("a b", "other characters"),
        ("a:b", "other characters"),
        (":path", "other characters"),
        ("é", "other characters"),
        ("a\n", "other characters"),
        ("Authorization", "not for settings"),
        ("CLUSTERID", "not for settings"),
        ("grpc-timeout", "not for settings"),
        ("x-bin", "not for settings"),
        ("host", "not for settings"),
        ("te", "not for settings"),
        ("content-type", "not for settings"),
        ("user-agent", "not for settings"),
    ],
)
def test_names_that_cannot_be_sent_are_refused(name: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        call_headers("c1", {name: "x"})


@pytest.mark.parametrize("value", ["", " SECRET", "SECRET ", "SECRET\n", "SECRETé", "SECRET\x7f"])
def test_values_that_cannot_be_sent_are_refused_and_not_told(value: str) -> None:
    with pytest.raises(ConfigurationError, match="the value of header 'x' is not") as refused:
        call_headers("c1", {"x": value})
    assert "SECRET" not in str(refused.value)


@pytest.mark.parametrize("cluster", ["", "a\nb", "é", " a"])
def test_a_cluster_that_cannot_be_sent_is_refused(cluster: str) -> None:
    with pytest.raises(ConfigurationError, match="cluster ID"):
        call_headers(cluster, {})


def test_two_headers_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="'FOO' is there twice"):
        call_headers("c1", {"foo": "a", "FOO": "b"})
