"""What every `Token` does, the fake one included."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest
from cryptography.exceptions import InvalidSignature

from sidecar.core.public_key import algorithm_of, verify
from sidecar.core.schemes import SignatureScheme
from sidecar.errors import MechanismMissing, NoSuchKey, Retryable, TokenUnavailable
from sidecar.token.base import Assurance, KeyId, Origin, Token, TokenKey
from tests.fakes.token import FakeToken
from tests.fixtures.requests import ALGORITHM, SCHEME
from tests.fixtures.waiting import BOUND_S

UNKNOWN = KeyId(b"no such key here")


@pytest.fixture(params=["softhsm_token", "tpm2_token", "p11_kit_token", "fake"])
def token(request: pytest.FixtureRequest) -> Token:
    if request.param == "fake":
        return FakeToken("mesh")
    return cast("Token", request.getfixturevalue(request.param))


def _verify(key: TokenKey, message: bytes, signature: bytes) -> None:
    verify(key.public_key, SCHEME, signature, message)


def test_it_says_what_it_is(token: Token) -> None:
    assert token.label == "mesh"
    assert token.assurance is Assurance.SOFTWARE
    assert token.report.label == "mesh"
    assert token.concurrency >= 1


def test_a_fresh_token_has_no_keys(token: Token) -> None:
    assert token.keys() == []


def test_a_new_key_is_on_p_256_with_a_random_id_of_its_own(token: Token) -> None:
    keys = [token.generate(ALGORITHM, "web") for _ in range(5)]
    assert {len(key.id.value) for key in keys} == {16}
    assert len({key.id for key in keys}) == 5
    assert {key.label for key in keys} == {"web"}
    assert {algorithm_of(key.public_key) for key in keys} == {ALGORITHM}
    assert {key.origin for key in keys} == {Origin.BORN}


@pytest.mark.parametrize("message", [b"", b"m", bytes(130), b"x" * 1_000_000])
def test_a_signature_is_der_over_the_whole_message(token: Token, message: bytes) -> None:
    key = token.generate(ALGORITHM, "web")
    signature = token.sign(key.id, SCHEME, message)
    _verify(key, message, signature)
    with pytest.raises(InvalidSignature):
        _verify(key, message + b"!", signature)


def test_many_signatures_of_any_number_of_leading_zeros_verify(token: Token) -> None:
    key = token.generate(ALGORITHM, "web")
    for number in range(300):
        _verify(key, bytes([number % 256]), token.sign(key.id, SCHEME, bytes([number % 256])))


def test_every_key_signs_as_itself(token: Token) -> None:
    one, two = token.generate(ALGORITHM, "one"), token.generate(ALGORITHM, "two")
    with pytest.raises(InvalidSignature):
        _verify(one, b"m", token.sign(two.id, SCHEME, b"m"))


def test_keys_are_listed_with_their_public_halves(token: Token) -> None:
    made = [token.generate(ALGORITHM, label) for label in ("one", "two", "zwei ü")]
    assert sorted(token.keys(), key=lambda key: key.id.value) == sorted(
        made, key=lambda key: key.id.value
    )


def test_an_unknown_key_does_not_sign_and_that_is_no_reason_to_retry(token: Token) -> None:
    token.generate(ALGORITHM, "web")
    with pytest.raises(NoSuchKey, match=str(UNKNOWN)) as refused:
        token.sign(UNKNOWN, SCHEME, b"m")
    assert not isinstance(refused.value, Retryable)


def test_a_scheme_that_is_not_served_is_refused(token: Token) -> None:
    key = token.generate(ALGORITHM, "web")
    with pytest.raises(MechanismMissing, match="does not sign with") as refused:
        token.sign(key.id, SignatureScheme.RSA_PSS_RSAE_SHA256, b"m")
    assert not isinstance(refused.value, Retryable)


def test_a_destroyed_key_is_gone_for_good(token: Token) -> None:
    key, other = token.generate(ALGORITHM, "web"), token.generate(ALGORITHM, "other")
    token.sign(key.id, SCHEME, b"m")
    token.destroy(key.id)
    with pytest.raises(NoSuchKey):
        token.sign(key.id, SCHEME, b"m")
    assert token.keys() == [other]
    _verify(other, b"m", token.sign(other.id, SCHEME, b"m"))


def test_a_key_that_is_not_there_is_as_good_as_destroyed(token: Token) -> None:
    token.destroy(UNKNOWN)
    key = token.generate(ALGORITHM, "web")
    token.destroy(key.id)
    token.destroy(key.id)


def test_only_made_signatures_are_counted(token: Token) -> None:
    key = token.generate(ALGORITHM, "web")
    assert token.signatures == 0
    for _ in range(3):
        token.sign(key.id, SCHEME, b"m")
    with pytest.raises(NoSuchKey):
        token.sign(UNKNOWN, SCHEME, b"m")
    assert token.signatures == 3


def test_many_threads_use_it_at_once(token: Token) -> None:
    key, together = token.generate(ALGORITHM, "web"), threading.Barrier(8)

    def work(number: int) -> None:
        together.wait(BOUND_S)
        own = token.generate(ALGORITHM, f"own {number}")
        for round_ in range(20):
            message = f"{number} {round_}".encode()
            for signer in (key, own):
                _verify(signer, message, token.sign(signer.id, SCHEME, message))
        token.destroy(own.id)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert token.keys() == [key]
    assert token.signatures == 8 * 20 * 2


def test_a_closed_token_is_unavailable_and_stays_so(token: Token) -> None:
    key = token.generate(ALGORITHM, "web")
    token.close()
    for _ in range(2):
        with pytest.raises(TokenUnavailable):
            token.sign(key.id, SCHEME, b"m")
        with pytest.raises(TokenUnavailable):
            token.keys()
        with pytest.raises(TokenUnavailable):
            token.generate(ALGORITHM, "web")
        with pytest.raises(TokenUnavailable):
            token.destroy(key.id)
