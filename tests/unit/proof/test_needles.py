"""Whatever form a value has in memory, one of its needles is in there."""

from __future__ import annotations

import subprocess
from base64 import b64encode, encodebytes
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from sidecar.proof.needles import needles

CURVES = [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()]

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
# From 2^200: the few values below it have too few significant octets, and never occur.
values = st.integers(min_value=2**200, max_value=P256_ORDER - 1).map(lambda n: n.to_bytes(32))


def names_found(value: bytes, memory: bytes) -> set[str]:
    return {needle.name for needle in needles(value) if needle.octets in memory}


def private_octets(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_numbers().private_value.to_bytes((key.curve.key_size + 7) // 8)


@given(values, st.binary(max_size=50), st.binary(max_size=50))
def test_raw_octets_are_found_in_both_orders(value: bytes, before: bytes, after: bytes) -> None:
    assert "big-endian (raw, SEC1 or PKCS#8 DER)" in names_found(value, before + value + after)
    assert "little-endian" in names_found(value, before + value[::-1] + after)


@given(st.binary(min_size=24, max_size=31))
def test_a_value_is_found_where_its_leading_zeros_were_dropped(rest: bytes) -> None:
    significant = b"\x80" + rest
    padded = significant.rjust(32, b"\0")
    assert len(names_found(padded, significant + significant[::-1])) >= 2
    assert len(names_found(significant, padded + padded[::-1])) >= 2


@given(
    values,
    st.sampled_from(CURVES),
    st.sampled_from([PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL]),
    st.sampled_from([Encoding.PEM, Encoding.DER]),
)
def test_key_files_of_cryptography_are_found(
    value: bytes, curve: ec.EllipticCurve, layout: PrivateFormat, encoding: Encoding
) -> None:
    key = ec.derive_private_key(int.from_bytes(value), curve)
    assert names_found(private_octets(key), key.private_bytes(encoding, layout, NoEncryption()))


@pytest.mark.parametrize("curve", ["P-256", "P-384", "P-521"])
@pytest.mark.parametrize("form", ["PEM", "DER"])
def test_key_files_of_openssl_are_found(curve: str, form: str) -> None:
    pkcs8 = openssl("genpkey", "-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{curve}")
    value = value_in(openssl("pkey", "-noout", "-text", stdin=pkcs8))
    assert names_found(value, openssl("pkey", "-outform", form, stdin=pkcs8))
    assert names_found(value, openssl("ec", "-outform", form, stdin=pkcs8))


@given(
    st.binary(min_size=25, max_size=66),
    st.binary(max_size=200),
    st.binary(max_size=100),
    st.integers(min_value=64, max_value=80),
    st.sampled_from([b"\n", b"\r\n", b"\\n", b"\n    "]),
)
def test_base64_is_found_at_any_place_in_lines_of_64_or_more(
    value: bytes, before: bytes, after: bytes, width: int, newline: bytes
) -> None:
    value = b"\x80" + value[1:]
    text = b64encode(before + value + after)
    lines = newline.join(text[at : at + width] for at in range(0, len(text), width))
    assert any(name.startswith("base64") for name in names_found(value, lines))


@given(values, st.binary(max_size=100))
def test_base64_is_found_as_mime_breaks_it(value: bytes, before: bytes) -> None:
    assert any(
        name.startswith("base64") for name in names_found(value, encodebytes(before + value))
    )


@given(st.binary(), st.binary(max_size=2000))
def test_other_memory_holds_no_needle(seed: bytes, memory: bytes) -> None:
    # Hashed, because the simplest values and the simplest memory are the same octets.
    assert not names_found(sha256(seed).digest(), memory)


@given(st.binary(min_size=25, max_size=66))
def test_no_needle_is_short_enough_for_chance(value: bytes) -> None:
    assert min(len(needle.octets) for needle in needles(b"\x80" + value[1:])) >= 16


def test_a_needle_never_shows_its_octets() -> None:
    assert "octets" not in repr(needles(bytes(range(1, 33))))


@pytest.mark.parametrize("value", [b"", bytes(32), bytes(8) + b"\x01" * 24])
def test_a_value_too_short_to_be_sure_of_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match="too short to search for"):
        needles(value)


def openssl(*arguments: str, stdin: bytes = b"") -> bytes:
    command = ["openssl", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout


def value_in(text: bytes) -> bytes:
    """The octets after `priv:` in what `openssl pkey -text` prints."""
    printed = text.split(b"priv:")[1].split(b"pub:")[0]
    return bytes.fromhex(printed.replace(b":", b"").decode())
