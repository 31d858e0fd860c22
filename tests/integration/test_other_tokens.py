"""A TPM and a token in another process: what the contract cannot show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import pytest
from pkcs11 import Attribute, Mechanism

from sidecar.core.public_key import verify
from sidecar.core.schemes import KeyAlgorithm, SignatureScheme
from sidecar.errors import MechanismMissing, TokenError, TokenUnavailable
from sidecar.token.base import Assurance, TokenKey
from sidecar.token.pkcs11 import Pkcs11Token
from sidecar.token.profiles import GENERIC, P11_KIT, SOFTHSM2, TPM2, TokenProfile
from tests.conftest import OpenToken, open_store
from tests.fixtures.p11kit import RemoteStore
from tests.fixtures.requests import ALGORITHM, SCHEME
from tests.fixtures.swtpm import TpmStore

Store = TpmStore | RemoteStore


@pytest.fixture(params=["tpm2", "p11_kit"])
def store(request: pytest.FixtureRequest) -> Store:
    return cast("Store", request.getfixturevalue(request.param))


@pytest.fixture
def token(store: Store) -> Iterator[Pkcs11Token]:
    token = open_store(store, TPM2 if isinstance(store, TpmStore) else P11_KIT)
    yield token
    token.close()


def _check(token: Pkcs11Token, key: TokenKey, message: bytes = b"m") -> None:
    verify(key.public_key, SCHEME, token.sign(key.id, SCHEME, message), message)


def _by_id(keys: list[TokenKey]) -> list[TokenKey]:
    return sorted(keys, key=lambda key: key.id.value)


# Lost and found


def test_a_token_that_returns_signs_at_the_first_attempt_with_the_right_key(
    store: Store, token: Pkcs11Token
) -> None:
    keys = [token.generate(ALGORITHM, label) for label in ("one", "two")]
    for key in keys:
        _check(token, key)
    for _ in range(2):
        store.stop()
        for attempt in (lambda: token.sign(keys[0].id, SCHEME, b"m"), token.keys):
            with pytest.raises(TokenUnavailable):
                attempt()
        with pytest.raises(TokenUnavailable):
            token.generate(ALGORITHM, "three")
        store.start()
        _check(token, keys[1])
        _check(token, keys[0])
    assert _by_id(token.keys()) == _by_id(keys)


def test_a_token_that_was_away_unnoticed_is_not_noticed_at_all(
    store: Store, token: Pkcs11Token
) -> None:
    key = token.generate(ALGORITHM, "web")
    _check(token, key)
    store.stop()
    store.start()
    _check(token, key)


def test_a_token_that_is_away_at_the_start_is_said(store: Store) -> None:
    store.stop()
    with pytest.raises(TokenUnavailable, match=r"C_Initialize failed|has 0 tokens|does not start"):
        open_store(store, GENERIC)


# What a token is worth


@pytest.mark.parametrize("profile", [TPM2, GENERIC, SOFTHSM2, P11_KIT], ids=lambda p: p.name)
def test_a_tpm_in_software_is_never_called_hardware(tpm2: TpmStore, profile: TokenProfile) -> None:
    token = open_store(tpm2, profile)
    try:
        making = [m for m in token.report.mechanisms if m.name.endswith("KEY_PAIR_GEN")]
        assert all("HW" in mechanism.flags for mechanism in making), "it claims to be"
        assert token.assurance is Assurance.SOFTWARE
    finally:
        token.close()


# Labels


@pytest.mark.parametrize("octets", [40, 200, 1000])
@pytest.mark.parametrize("character", ["a", "ü", "€"])
def test_a_label_is_kept_up_to_the_profiles_limit(
    token: Pkcs11Token, octets: int, character: str
) -> None:
    label = character * (octets // len(character.encode()))
    key = token.generate(ALGORITHM, label)
    assert label.startswith(key.label)
    assert len(key.label.encode()) > min(octets, 255) - 4
    assert token.keys() == [key]


# Wrong profiles


def test_a_wrong_profile_on_a_tpm_is_told_by_its_attributes(tpm2: TpmStore) -> None:
    token = open_store(tpm2, SOFTHSM2)
    try:
        with pytest.raises(TokenError) as refused:
            token.generate(ALGORITHM, "web")
        assert str(refused.value) == (
            "token 'mesh' refuses CKA_VERIFY=True (public) and CKA_ENCRYPT=False (public) for a "
            "key of ec-p256 (GeneralError): profile 'softhsm2' does not fit it, set token.profile "
            "to tpm2"
        )
        assert token._sessions.use("a test", lambda s: list(s.session.get_objects())) == []
        assert token._sessions.starts == 1, "nothing was lost, so nothing was restarted"
    finally:
        token.close()


def test_a_wrong_profile_on_softhsm2_is_told_by_its_attribute(open_token: OpenToken) -> None:
    wrong = TokenProfile("odd", None, private_template={Attribute.ENCRYPT: True})
    token = open_token(wrong)
    with pytest.raises(TokenError) as refused:
        token.generate(ALGORITHM, "web")
    assert str(refused.value) == (
        "token 'mesh' refuses CKA_ENCRYPT=True (private) for a key of ec-p256 "
        "(AttributeTypeInvalid): profile 'odd' does not fit it, set token.profile to softhsm2"
    )
    # SoftHSM2 itself leaves parts behind when it refuses a template; none is a key.
    assert token.keys() == []
    kept = token._sessions.use("a test", lambda s: [o.label for o in s.session.get_objects()])
    assert set(kept) <= {"", "meshkey:trial"}


def test_a_mechanism_that_does_not_work_is_left_for_one_that_does(tpm2: TpmStore) -> None:
    # Nobody told it that this module's RSA_PKCS fails for keys that may not decrypt.
    token = open_store(tpm2, replace(TPM2, unusable=frozenset()))
    try:
        key = token.generate(KeyAlgorithm.RSA_2048, "web")
        assert SignatureScheme.RSA_PKCS1_SHA256 in token.schemes(key)
        way = token.signing.way(SignatureScheme.RSA_PKCS1_SHA256)
        assert way is not None
        assert way.mechanism is Mechanism.SHA256_RSA_PKCS
        token.destroy(key.id)
        assert token.keys() == []
    finally:
        token.close()


def test_a_token_without_a_working_mechanism_names_those_that_were_tried(
    open_token: OpenToken,
) -> None:
    unusable = frozenset({Mechanism.ECDSA, Mechanism.ECDSA_SHA256})
    token = open_token(replace(SOFTHSM2, unusable=unusable))
    key = token.generate(ALGORITHM, "web")
    with pytest.raises(MechanismMissing, match="CKM_ECDSA, CKM_ECDSA_SHA256 are missing or do not"):
        token.schemes(key)


def test_an_algorithm_that_a_token_lacks_is_refused_by_its_mechanism(token: Pkcs11Token) -> None:
    with pytest.raises(MechanismMissing, match="no keys of ed25519: CKM_EC_EDWARDS_KEY_PAIR_GEN"):
        token.generate(KeyAlgorithm.ED25519, "web")
