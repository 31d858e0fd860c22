"""What the calls to Istio's certificate service carry: a token, headers, trust in the CA."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from sidecar import whole_file
from sidecar.ca.pem import certificates
from sidecar.errors import AuthorityUnavailable, ConfigurationError

# What servers commonly accept as one header.
_MAX_TOKEN = 16 * 1024
_MAX_ROOTS = 1024 * 1024
# RFC 6750 section 2.1. Anything else, and gRPC's own error would quote it.
_TOKEN = re.compile(rb"[A-Za-z0-9._~+/-]+=*")
# gRPC's protocol over HTTP/2: header names are lower case, values printable ASCII.
_HEADER_NAME = re.compile(r"[0-9a-z_.-]+")
_HEADER_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
_RESERVED = {"authorization", "clusterid", "connection", "content-type", "host", "te"}
_RESERVED |= {"keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "user-agent"}


def read_token(path: Path) -> str:
    """The bearer token in a file.

    Raises:
        AuthorityUnavailable: there is none now; the kubelet may still write it.
    """
    token = _content(path, "token file", _MAX_TOKEN, _MOUNT).strip()
    if not token:
        raise AuthorityUnavailable(f"token file {path} is empty; {_MOUNT}")
    # No exception is raised from one that would hold what the file holds.
    if not _TOKEN.fullmatch(token):
        raise AuthorityUnavailable(f"token file {path} holds no bearer token; {_MOUNT}")
    return token.decode("ascii")


def read_roots(path: Path) -> bytes:
    """The PEM certificates in a file, at least one.

    Raises:
        AuthorityUnavailable: there is none now, or something else with them; whoever keeps
            the file may be about to write it.
    """
    content = _content(path, "root file", _MAX_ROOTS, _ROOT)
    try:
        # Nothing but what was parsed goes to gRPC, which trusts the system's roots if it gets
        # nothing and takes what it can read if it gets garbage.
        return b"".join(root.public_bytes(Encoding.PEM) for root in certificates(content))
    except ValueError as error:
        raise AuthorityUnavailable(
            f"root file {path} holds no readable PEM certificates; {_ROOT}"
        ) from error


def call_headers(cluster_id: str, headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The metadata of every call beside the token.

    Raises:
        ConfigurationError: one that cannot be sent; the value is not told, it may be secret.
    """
    if not _HEADER_VALUE.fullmatch(cluster_id):
        raise ConfigurationError(f"the cluster ID {cluster_id!r} is not printable ASCII")
    # Istio writes ClusterID; metadata keys are lower case on the wire.
    sent = {"clusterid": cluster_id}
    for name, value in headers.items():
        key = _header_name(name)
        if key in sent:
            raise ConfigurationError(f"the header {name!r} is there twice")
        if not _HEADER_VALUE.fullmatch(value):
            raise ConfigurationError(f"the value of header {name!r} is not printable ASCII")
        sent[key] = value
    return tuple(sent.items())


_MOUNT = "mount the projected service account token there"
_ROOT = "it must have the root of the CA's own TLS certificate"


def _content(path: Path, what: str, limit: int, way_out: str) -> bytes:
    try:
        content = whole_file.read(path, limit)
    except OSError as error:
        raise AuthorityUnavailable(
            f"{what} {path} cannot be read: {error.strerror}; {way_out}"
        ) from error
    if len(content) > limit:
        raise AuthorityUnavailable(f"{what} {path} is longer than {limit} bytes; {way_out}")
    return content


def _header_name(name: str) -> str:
    # Istio's agent sends CA_HEADER_FOO as FOO, which Go's gRPC lowers.
    key = name.lower()
    if not _HEADER_NAME.fullmatch(key):
        raise ConfigurationError(
            f"the header name {name!r} has other characters than letters, digits, '-', '_', '.'"
        )
    if key in _RESERVED or key.startswith("grpc-") or key.endswith("-bin"):
        raise ConfigurationError(f"the header {name!r} is not for settings: gRPC or Istio has it")
    return key
