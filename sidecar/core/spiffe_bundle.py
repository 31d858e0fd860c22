"""SPIFFE bundle documents (SPIFFE Trust Domain and Bundle, section 4; X509-SVID, section 6)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeGuard

from cryptography import x509

from sidecar.core import strict_json
from sidecar.core.json_web_key import PRIVATE_MEMBERS, public_members
from sidecar.core.trust import TrustBundle
from sidecar.core.unreadable import UNREADABLE
from sidecar.errors import CertificateRefused

_LONGEST_HINT = timedelta(days=365)


@dataclass(frozen=True)
class SpiffeBundle:
    """The X.509 part of a bundle document; keys for other kinds of SVID are left out."""

    bundle: TrustBundle
    # Grows with each change of the document.
    sequence: int | None
    # How often its publisher suggests to look for a change; at most a year.
    refresh_hint: timedelta | None

    @classmethod
    def parse(cls, trust_domain: str, document: bytes) -> SpiffeBundle:
        """Parses a JWK Set (RFC 7517) with the roots of `trust_domain`.

        The document does not say whose it is; whoever configured it does. Keys of a type or
        use that is not known are passed over, as both standards want it.

        Raises:
            CertificateRefused: it is no such document, has no root, or has a private key.
        """
        fields = _object(document)
        keys = fields.get("keys")
        if not _is_list(keys):
            raise CertificateRefused('the SPIFFE bundle has no list "keys"')
        roots = [root for key in keys if (root := _root(key)) is not None]
        if not roots:
            raise CertificateRefused('the SPIFFE bundle has no certificate with use "x509-svid"')
        hint = _whole_number(fields, "spiffe_refresh_hint")
        return cls(
            bundle=TrustBundle.of(trust_domain, roots),
            sequence=_whole_number(fields, "spiffe_sequence"),
            refresh_hint=None if hint is None else _seconds(hint),
        )


def _object(document: bytes) -> Mapping[str, object]:
    try:
        parsed = strict_json.parsed(document)
    except ValueError as error:
        raise CertificateRefused("the SPIFFE bundle is no readable JSON") from error
    if not _is_object(parsed):
        raise CertificateRefused("the SPIFFE bundle is no JSON object")
    return parsed


def _root(key: object) -> x509.Certificate | None:
    if not _is_object(key):
        raise CertificateRefused('the SPIFFE bundle\'s "keys" holds something that is no key')
    kind = key.get("kty")
    if not isinstance(kind, str) or kind not in PRIVATE_MEMBERS:
        return None
    # Of a key for another use, too: it lies there all the same.
    if PRIVATE_MEMBERS[kind] & key.keys():
        raise CertificateRefused(
            "a private key lies in the SPIFFE bundle, where anyone may read it: take it out, "
            "and replace that key"
        )
    # X509-SVID section 6.2: without a certificate it is passed over, after the first one
    # the others are.
    chain = key.get("x5c")
    if key.get("use") != "x509-svid" or not _is_list(chain) or not chain:
        return None
    root = _certificate(chain[0])
    _require_same_key(key, root)
    return root


def _certificate(text: object) -> x509.Certificate:
    try:
        if not isinstance(text, str):
            raise TypeError("no string")
        return x509.load_der_x509_certificate(base64.b64decode(text, validate=True))
    except UNREADABLE as error:
        raise CertificateRefused(
            'the SPIFFE bundle has an "x5c" that is no certificate in base64'
        ) from error


def _require_same_key(key: Mapping[str, object], root: x509.Certificate) -> None:
    # RFC 7517 section 4.7: the certificate's key must be the one that the members describe.
    try:
        members = public_members(root.public_key())
    except UNREADABLE as error:
        raise CertificateRefused("the SPIFFE bundle has a root whose key cannot be read") from error
    if any(key.get(name, value) != value for name, value in members.items()):
        raise CertificateRefused(
            "the SPIFFE bundle has an entry that describes another key than its certificate's"
        )


def _whole_number(fields: Mapping[str, object], name: str) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise CertificateRefused(f"the SPIFFE bundle's {name!r} is no whole number")
    return value


def _seconds(hint: int) -> timedelta:
    return timedelta(seconds=min(hint, int(_LONGEST_HINT.total_seconds())))


def _is_object(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)
