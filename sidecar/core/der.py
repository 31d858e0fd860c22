"""Tells ASN.1 from TLS: what is DER from its first byte to its last (X.690 sections 8 and 10)."""

from __future__ import annotations

_SEQUENCE = 0x30
_SET = 0x31
# A tag of more than one byte, and the tag that ends an indefinite length: no such thing in
# certificates, requests, CRLs, OCSP answers and CMS.
_HIGH_TAG = 0x1F
_END_OF_CONTENTS = 0x00


def refuse_der(message: bytes) -> None:
    """Raises if `message` is one whole SEQUENCE or SET of whole elements, and nothing else.

    Whatever X.509, OCSP and CMS sign is that: TBSCertificate, TBSCertList, ResponseData and
    CertificationRequestInfo are a SEQUENCE, the signed attributes of CMS (RFC 5652 section
    5.4) are a SET.

    Raises:
        ValueError: it is.
    """
    content = _element(message, 0)
    if content is None or message[0] not in (_SEQUENCE, _SET) or content[1] != len(message):
        return
    start, end = content
    while start < end:
        inner = _element(message, start)
        if inner is None or inner[1] > end:
            return
        start = inner[1]
    raise ValueError("the message is ASN.1 (a certificate or a request is), not a TLS handshake")


def _element(data: bytes, at: int) -> tuple[int, int] | None:
    """Where the content of the element at `at` begins and ends; `None` if there is none."""
    header = data[at : at + 2]
    if len(header) < 2 or header[0] == _END_OF_CONTENTS or header[0] & _HIGH_TAG == _HIGH_TAG:
        return None
    start, length = at + 2, header[1]
    if length >= 0x80:
        # BER may lead with zeros, DER may not: here either is ASN.1.
        size = length & 0x7F
        start += size
        length = int.from_bytes(data[at + 2 : start])
        if not size or start > len(data):
            return None
    return (start, start + length) if start + length <= len(data) else None
