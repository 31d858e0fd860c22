"""Signatures in two calls of the module are what python-pkcs11's are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pkcs11
import pytest

from sidecar.core.public_key import verify
from sidecar.core.schemes import KeyAlgorithm
from sidecar.core.token_selector import TokenSelector
from sidecar.demo.softhsm import SoftHsmStore
from sidecar.token.calls import _ERRORS
from sidecar.token.login import Login
from sidecar.token.pin_sources import PinFile
from sidecar.token.pkcs11 import Pkcs11Token
from sidecar.token.profiles import SOFTHSM2
from sidecar.token.sessions import ThreadState
from tests.e2e.shim import Shim
from tests.fixtures.requests import ALGORITHM, SCHEME

MESH = TokenSelector(label="mesh")


@pytest.fixture
def shim(softhsm: SoftHsmStore, short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Shim:
    made = Shim.build(short_dir)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def token(softhsm: SoftHsmStore, shim: Shim) -> Iterator[Pkcs11Token]:
    login = Login(PinFile(softhsm.directory / "mesh.pin"))
    opened = Pkcs11Token.open(shim.module, MESH, login, SOFTHSM2)
    yield opened
    opened.close()


def _state(token: Pkcs11Token) -> ThreadState:
    return token._sessions._thread_state()


@pytest.mark.parametrize("function", ["C_SignInit", "C_Sign"])
def test_a_failure_has_the_type_that_python_pkcs11_gives_it(
    token: Pkcs11Token, shim: Shim, function: str
) -> None:
    key = token.generate(ALGORITHM, "web")
    token.sign(key.id, SCHEME, b"m")
    way = token.signing.way(SCHEME)
    assert way
    digest = way.input(b"m")
    # 0xb has no name of its own; the last is a vendor's.
    for code in [*_ERRORS, 0xB, 0x80000001]:
        token._sessions._forget_session()
        token.sign(key.id, SCHEME, b"m")
        state = _state(token)
        private = state.private_keys[key.id].private
        assert state.calls
        shim.rule(f"{function} fail {code:#x}")
        with pytest.raises(pkcs11.PKCS11Error) as ours:
            state.calls.sign(state.session.handle, private.handle, way.structure, digest)
        shim.rule()
        token._sessions._forget_session()
        token.sign(key.id, SCHEME, b"m")
        private = _state(token).private_keys[key.id].private
        shim.rule(f"{function} fail {code:#x}")
        with pytest.raises(pkcs11.PKCS11Error) as theirs:
            private.sign(digest, mechanism=way.mechanism)
        shim.rule()
        assert ours.type is theirs.type


@pytest.mark.parametrize("algorithm", [KeyAlgorithm.EC_P521, KeyAlgorithm.RSA_4096])
def test_the_longest_signatures_fit(softhsm_token: Pkcs11Token, algorithm: KeyAlgorithm) -> None:
    key = softhsm_token.generate(algorithm, "web")
    for scheme in softhsm_token.schemes(key):
        verify(key.public_key, scheme, softhsm_token.sign(key.id, scheme, b"m"), b"m")


def test_nothing_is_kept_of_a_key_that_was_destroyed(softhsm_token: Pkcs11Token) -> None:
    for _ in range(3):
        key = softhsm_token.generate(ALGORITHM, "web")
        softhsm_token.sign(key.id, SCHEME, b"m")
        softhsm_token.destroy(key.id)
    kept = [
        *_state(softhsm_token).private_keys,
        *softhsm_token.holdings.public_keys,
        *softhsm_token.holdings._missed,
    ]
    assert kept == []
