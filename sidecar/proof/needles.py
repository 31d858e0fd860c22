"""What a private value looks like in memory: the octet strings to search for.

Every needle is made of the value's significant octets, so that each form that holds
the value holds a needle:

- big-endian: raw, and inside DER. SEC1 ECPrivateKey (RFC 5915 section 3) has the
  value as an octet string, big-endian and padded with zeros; PKCS#8 (RFC 5208) wraps
  SEC1; so neither needs a needle of its own.
- little-endian: OpenSSL's, BoringSSL's and AWS-LC's limbs on a little-endian machine.
- base64: PEM, a data URI, an inline secret in a configuration. Where the value
  begins within a group of three octets is unknown, hence three alignments, each cut
  to the characters that depend on nothing but the value. Lines of 64 characters (RFC
  7468 section 2) or more may break that run at unknown places: it is cut into one
  piece more than there can be breaks, so that one piece is always whole, whatever
  a line ends with.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

# The shortest value whose base64 pieces all have 16 characters.
_SHORTEST: Final = 25
_LINE: Final = 64


@dataclass(frozen=True, slots=True)
class Needle:
    """An octet string to search for. The name is for people; the octets are secret."""

    name: str
    octets: bytes = field(repr=False)


def needles(private_value: bytes) -> tuple[Needle, ...]:
    """The needles of which memory holds at least one if it holds `private_value`.

    `private_value` is big-endian, leading zeros or not. Each needle has at least 16
    octets, which random memory does not show by chance: a base64 piece of 16
    characters still carries 96 bits.

    Raises `ValueError` for a value with too few significant octets for that.
    """
    # A number's zeros are stored in some forms and not in others.
    significant = private_value.lstrip(b"\0")
    if len(significant) < _SHORTEST:
        raise ValueError(f"a private value of {len(significant)} octets is too short to search for")
    return (
        Needle("big-endian (raw, SEC1 or PKCS#8 DER)", significant),
        Needle("little-endian", significant[::-1]),
        *_base64_needles(significant),
    )


def _base64_needles(value: bytes) -> Iterator[Needle]:
    for alignment in range(3):
        run = _base64_run(value, alignment)
        breaks = -(-(len(run) - 1) // _LINE)
        for number, piece in enumerate(_pieces(run, breaks + 1), start=1):
            yield Needle(f"base64, alignment {alignment}, piece {number}", piece)


def _base64_run(value: bytes, alignment: int) -> bytes:
    """The base64 characters that `value` alone determines after `alignment` other octets."""
    # A character carries 6 bits: the first one wholly inside the value, and the end of the last.
    first = -(-8 * alignment // 6)
    end = 8 * (alignment + len(value)) // 6
    return b64encode(bytes(alignment) + value)[first:end]


def _pieces(run: bytes, count: int) -> Iterator[bytes]:
    for number in range(count):
        yield run[len(run) * number // count : len(run) * (number + 1) // count]
