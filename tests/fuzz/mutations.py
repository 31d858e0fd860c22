"""Changes to messages: of bytes, of lengths, and of whole handshake messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from tests.fixtures import tls12

_Mutation = Callable[[Random, bytes, Sequence[bytes]], bytes]
# What tags, types, lengths and versions are made of.
_INTERESTING = (0, 1, 2, 3, 4, 11, 16, 23, 24, 29, 0x20, 0x30, 0x31, 0x41, 0x61, 0x7F, 0x80, 0xFF)
_MOST_CHANGES = 4
_LONGEST_SLICE = 64


def mutated(random: Random, message: bytes, corpus: Sequence[bytes]) -> bytes:
    """`message` after a few changes; `corpus` is where foreign parts come from."""
    for _ in range(random.randint(1, _MOST_CHANGES)):
        message = random.choice(_MUTATIONS)(random, message, corpus)
    return message


def _flip(random: Random, message: bytes, _corpus: Sequence[bytes]) -> bytes:
    if not message:
        return message
    at = random.randrange(len(message))
    return message[:at] + bytes([message[at] ^ 1 << random.randrange(8)]) + message[at + 1 :]


def _overwrite(random: Random, message: bytes, _corpus: Sequence[bytes]) -> bytes:
    at = random.randint(0, len(message))
    return message[:at] + bytes([random.choice(_INTERESTING)]) + message[at + 1 :]


def _insert(random: Random, message: bytes, _corpus: Sequence[bytes]) -> bytes:
    at = random.randint(0, len(message))
    return message[:at] + random.randbytes(random.randint(1, 4)) + message[at:]


def _delete(random: Random, message: bytes, _corpus: Sequence[bytes]) -> bytes:
    start = random.randint(0, len(message))
    return message[:start] + message[start + random.randint(1, _LONGEST_SLICE) :]


def _cut(random: Random, message: bytes, _corpus: Sequence[bytes]) -> bytes:
    return message[: random.randint(0, len(message))]


def _repeat(random: Random, message: bytes, _corpus: Sequence[bytes]) -> bytes:
    start = random.randint(0, len(message))
    end = start + random.randint(1, _LONGEST_SLICE)
    return message[:end] + message[start:]


def _splice(random: Random, message: bytes, corpus: Sequence[bytes]) -> bytes:
    """The beginning of one and the end of another, often at the same place."""
    other = random.choice(corpus)
    at = random.randint(0, len(message))
    return message[:at] + other[at if random.random() < 0.7 else random.randint(0, len(other)) :]


def _adjust_length(random: Random, message: bytes, _corpus: Sequence[bytes]) -> bytes:
    """One byte more or less than was said."""
    if not message:
        return message
    at = random.randrange(len(message))
    step = random.choice((-1, 1))
    return message[:at] + bytes([(message[at] + step) % 256]) + message[at + 1 :]


def _wrap(random: Random, message: bytes, _corpus: Sequence[bytes]) -> bytes:
    """The beginning is overwritten with the header of a DER element that spans everything."""
    tag, rest = random.choice((0x30, 0x31, 0x04)), len(message)
    if rest < 130:
        header = bytes([tag, max(rest - 2, 0)])
    elif rest < 259:
        header = bytes([tag, 0x81, rest - 3])
    else:
        header = bytes([tag, 0x82]) + min(rest - 4, 0xFFFF).to_bytes(2)
    inner = bytes([0x04, max(rest - len(header) - 2, 0) & 0x7F])
    return (header + inner + message[len(header) + 2 :])[:rest]


def _rearrange(random: Random, message: bytes, corpus: Sequence[bytes]) -> bytes:
    """Whole handshake messages dropped, doubled, swapped, or changed with their length right."""
    messages = list(tls12.read(message))
    place, other = random.randrange(len(messages) or 1), random.randrange(len(messages) or 1)
    if not messages:
        return message
    match random.randrange(4):
        case 0:
            del messages[place]
        case 1:
            messages.insert(other, messages[place])
        case 2:
            messages[place], messages[other] = messages[other], messages[place]
        case _:
            kind, body = messages[place]
            changed = random.choice((_flip, _insert, _delete, _adjust_length))
            messages[place] = (kind, changed(random, body, corpus)[: 2**16])
    return tls12.written(messages)


_MUTATIONS: tuple[_Mutation, ...] = (
    _flip,
    _overwrite,
    _insert,
    _delete,
    _cut,
    _repeat,
    _splice,
    _adjust_length,
    _wrap,
    _rearrange,
)
