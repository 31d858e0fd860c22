"""What every `Token` that `Imports` does with a key from outside, the fake one included."""

from __future__ import annotations

from typing import Protocol, cast

import pytest

from sidecar.core.private_key import PrivateKey
from sidecar.core.public_key import verify
from sidecar.core.schemes import KeyAlgorithm
from sidecar.errors import NoSuchKey, TokenUnavailable
from sidecar.token.base import Imports, Origin, Token
from tests.fakes.token import FakeToken
from tests.fixtures.private_keys import small_ec_key, small_ed25519_seed, some_key

# Another token is one more name here: the name of its fixture.
TOKENS = ["softhsm_token", "fake_token"]


class ImportingToken(Token, Imports, Protocol):
    """What is tested here."""


@pytest.fixture
def fake_token() -> FakeToken:
    return FakeToken("mesh")


@pytest.fixture(params=TOKENS)
def token(request: pytest.FixtureRequest) -> ImportingToken:
    return cast("ImportingToken", request.getfixturevalue(request.param))


def _require_signatures(token: ImportingToken, private_key: PrivateKey) -> None:
    key = token.import_key(private_key, "gateway ü").key
    assert key.public_key == private_key.public_key()
    assert (len(key.id.value), key.label, key.origin) == (16, "gateway ü", Origin.IMPORTED)
    assert token.keys() == [key]
    for scheme in token.schemes(key):
        message = scheme.name.encode()
        verify(private_key.public_key(), scheme, token.sign(key.id, scheme, message), message)


@pytest.mark.parametrize("algorithm", KeyAlgorithm)
def test_an_imported_key_signs_as_itself_and_says_where_it_was(
    token: ImportingToken, algorithm: KeyAlgorithm
) -> None:
    _require_signatures(token, some_key(algorithm))


@pytest.mark.parametrize("private_key", [small_ec_key(), small_ed25519_seed()], ids=["ec", "ed"])
def test_a_value_that_begins_with_zeros_is_whole(
    token: ImportingToken, private_key: PrivateKey
) -> None:
    _require_signatures(token, private_key)


def test_a_key_of_an_algorithm_that_was_seen_before_is_tried_too(token: ImportingToken) -> None:
    born = token.generate(KeyAlgorithm.EC_P256, "born")
    scheme = token.schemes(born)[0]
    imported = [token.import_key(some_key(KeyAlgorithm.EC_P256), "in").key for _ in range(3)]
    assert len({key.id for key in [born, *imported]}) == 4
    for key in [born, *imported]:
        verify(key.public_key, scheme, token.sign(key.id, scheme, b"m"), b"m")
    by_id = sorted([born, *imported], key=lambda key: key.id.value)
    assert sorted(token.keys(), key=lambda key: key.id.value) == by_id
    assert (born.origin, {key.origin for key in imported}) == (Origin.BORN, {Origin.IMPORTED})


def test_an_imported_key_is_destroyed_like_any_other(token: ImportingToken) -> None:
    key = token.import_key(some_key(KeyAlgorithm.EC_P256), "in").key
    scheme = token.schemes(key)[0]
    token.destroy(key.id)
    assert token.keys() == []
    with pytest.raises(NoSuchKey):
        token.sign(key.id, scheme, b"m")


def test_a_closed_token_takes_no_key(token: ImportingToken) -> None:
    token.close()
    with pytest.raises(TokenUnavailable):
        token.import_key(some_key(KeyAlgorithm.EC_P256), "in")
