"""Nothing but what it is for is signed, whatever the bytes: tried on mutated real messages.

Short in `make test`, as long as one likes with `make fuzz`. The changes follow from the seed;
what they are made to is a new handshake each time, so what fails is printed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol

import pytest

from sidecar.core.certificate_verify import CertificateVerifyContent, Side
from sidecar.core.client_handshake import ClientHandshake
from sidecar.core.schemes import SignatureScheme
from sidecar.core.server_key_exchange import ServerKeyExchangeContent
from tests.fixtures import foreign, tls12
from tests.fuzz.mutations import mutated

CASES = int(os.environ.get("MESHKEY_FUZZ_CASES", "10000"))
SEED = int(os.environ.get("MESHKEY_FUZZ_SEED", "5"))
_SCHEME = SignatureScheme.ECDSA_SECP256R1_SHA256


class _Content(Protocol):
    def encode(self) -> bytes: ...


@dataclass(frozen=True)
class _Target:
    """A parser, and messages that it accepts."""

    parse: Callable[[bytes], _Content]
    accepted: tuple[bytes, ...]


def _certificate_verify(side: Side) -> _Target:
    hashes = (bytes(32), b"\xff" * 48)
    return _Target(
        lambda message: CertificateVerifyContent.parse(message, side),
        tuple(CertificateVerifyContent(side, each).encode() for each in hashes),
    )


def _server_key_exchange() -> _Target:
    # The same key in each: what is accepted does not depend on the kind of the key.
    real = [tls12.handshake("rsa", curve) for curve in ("prime256v1", "secp384r1", None)]
    return _Target(ServerKeyExchangeContent.parse, tuple(each.server_content for each in real))


def _client_handshake() -> _Target:
    real = [tls12.handshake("ec-p256", curve) for curve in ("prime256v1", None)]
    leaves = tuple(each.leaf for each in real)
    stapled = list(real[0].before_verify)
    stapled.insert(3, (tls12.CERTIFICATE_STATUS, b"\x01\0\0\x05reply"))
    return _Target(
        lambda message: ClientHandshake.parse(message, leaves, _SCHEME),
        (*(each.client_content for each in real), tls12.written(stapled)),
    )


TARGETS = {
    "TLS 1.3 server": lambda: _certificate_verify(Side.SERVER),
    "TLS 1.3 client": lambda: _certificate_verify(Side.CLIENT),
    "TLS 1.2 server": _server_key_exchange,
    "TLS 1.2 client": _client_handshake,
}


@pytest.mark.timeout(CASES / 100 + 60)
@pytest.mark.parametrize("name", TARGETS)
def test_mutated_messages_are_refused_or_are_what_they_claim(name: str) -> None:
    target = TARGETS[name]()
    for message in target.accepted:
        assert target.parse(message).encode() == message
    corpus = (*target.accepted, *foreign.MESSAGES.values())
    accepted = 0
    for case in range(CASES):
        random = Random(f"{SEED} {name} {case}")
        # Mostly from what is accepted: the way from there to something else is shortest.
        seeds = target.accepted if random.random() < 0.8 else corpus
        message = mutated(random, random.choice(seeds), corpus)
        try:
            content = target.parse(message)
        except ValueError:
            continue
        except Exception as error:
            raise AssertionError(f"no refusal of {message.hex()}") from error
        accepted += 1
        assert content.encode() == message, message.hex()
        assert not _is_der(message), message.hex()
        assert not message.isascii() or b"\x00" in message, message.hex()
    # Otherwise nothing was tried.
    assert accepted > CASES / 100


def _is_der(message: bytes) -> bool:
    """Whether one SEQUENCE or SET spans the message: apart from the code under test."""
    if len(message) < 2 or message[0] not in (0x30, 0x31):
        return False
    size = message[1] & 0x7F if message[1] & 0x80 else 0
    length = int.from_bytes(message[2 : 2 + size]) if size else message[1]
    elements = message[2 + size :]
    if len(elements) != length:
        return False
    while elements:
        if len(elements) < 2 or elements[0] & 0x1F == 0x1F or not elements[0]:
            return False
        size = elements[1] & 0x7F if elements[1] & 0x80 else 0
        if elements[1] == 0x80:
            return False
        length = int.from_bytes(elements[2 : 2 + size]) if size else elements[1]
        if 2 + size + length > len(elements):
            return False
        elements = elements[2 + size + length :]
    return True
