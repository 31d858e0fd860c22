"""Stores that come back with other keys, and logins that somebody else ended."""

from __future__ import annotations

import ctypes
import threading

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sidecar.core.public_key import verify
from sidecar.demo.softhsm import SoftHsmStore
from sidecar.errors import KeyChanged, NoSuchKey
from sidecar.token.base import TokenKey
from sidecar.token.pkcs11 import Pkcs11Token
from tests.conftest import MODULE
from tests.fixtures.requests import ALGORITHM, SCHEME
from tests.fixtures.stores import away, empty_again, overwrite_key, put_another_key


def _signs(token: Pkcs11Token, key: TokenKey) -> None:
    verify(key.public_key, SCHEME, token.sign(key.id, SCHEME, b"m"), b"m")


@pytest.mark.parametrize("used", [True, False], ids=["used before", "not used before"])
def test_a_store_that_was_made_anew_has_no_such_key(
    softhsm: SoftHsmStore, softhsm_token: Pkcs11Token, used: bool
) -> None:
    key = softhsm_token.generate(ALGORITHM, "web")
    if used:
        _signs(softhsm_token, key)
    with away(softhsm):
        empty_again(softhsm, "mesh")
        for _ in range(2):
            with pytest.raises(NoSuchKey):
                softhsm_token.sign(key.id, SCHEME, b"m")
        assert softhsm_token.keys() == []
        _signs(softhsm_token, softhsm_token.generate(ALGORITHM, "new"))
    _signs(softhsm_token, key)


@pytest.mark.parametrize("used", [True, False], ids=["used before", "not used before"])
@pytest.mark.parametrize("public_half", ["another public half", "the same public half"])
def test_no_signature_is_made_with_another_key_under_the_same_name(
    softhsm: SoftHsmStore, softhsm_token: Pkcs11Token, public_half: str, used: bool
) -> None:
    key = softhsm_token.generate(ALGORITHM, "web")
    if used:
        _signs(softhsm_token, key)
    point, why = b"", "holds another key under"
    if public_half == "the same public half":
        raw = key.public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        point, why = bytes([4, len(raw)]) + raw, "does not sign as key"
    with away(softhsm):
        empty_again(softhsm, "mesh")
        put_another_key(MODULE, softhsm, "mesh", key.id, point)
        for _ in range(3):
            with pytest.raises(KeyChanged, match=why):
                softhsm_token.sign(key.id, SCHEME, b"m")
    _signs(softhsm_token, key)


def test_a_key_that_is_overwritten_while_it_is_in_use_is_noticed(
    softhsm: SoftHsmStore, softhsm_token: Pkcs11Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = softhsm_token.generate(ALGORITHM, "web")
    for _ in range(3):
        _signs(softhsm_token, key)
    overwrite_key(MODULE, softhsm, "mesh", key.id)
    # At the latest when its time is up.
    monkeypatch.setattr("sidecar.token.signing._TRUSTED_S", 0.0)
    for _ in range(3):
        with pytest.raises(KeyChanged):
            softhsm_token.sign(key.id, SCHEME, b"m")


def test_a_logout_by_somebody_else_is_no_loss_of_keys(softhsm_token: Pkcs11Token) -> None:
    sessions = softhsm_token._sessions
    used = softhsm_token.generate(ALGORITHM, "used")
    unused = softhsm_token.generate(ALGORITHM, "not used before")
    _signs(softhsm_token, used)

    def log_out() -> None:
        assert sessions._anchor is not None
        logout = ctypes.CDLL(str(MODULE)).C_Logout
        assert logout(ctypes.c_ulong(sessions._anchor.handle)) == 0

    for operation in (
        lambda: _signs(softhsm_token, used),
        lambda: _signs(softhsm_token, unused),
        lambda: len(softhsm_token.keys()) == 2,
    ):
        starts = sessions.starts
        log_out()
        assert operation() is not False
        assert sessions.starts == starts + 1
    log_out()
    softhsm_token.destroy(used.id)
    assert softhsm_token.keys() == [unused]
    with pytest.raises(NoSuchKey):
        softhsm_token.sign(used.id, SCHEME, b"m")


def test_a_thread_that_hangs_does_not_hold_a_restart_up_for_ever(
    softhsm_token: Pkcs11Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.token.sessions._RESTART_S", 0.05)
    key = softhsm_token.generate(ALGORITHM, "web")
    inside, leave = threading.Event(), threading.Event()

    def hang(_state: object) -> None:
        inside.set()
        leave.wait()

    hanging = threading.Thread(target=lambda: softhsm_token._sessions.use("hanging", hang))
    hanging.start()
    inside.wait()
    try:
        # Whoever needs a restart cannot have one now; whoever needs none goes on.
        with pytest.raises(Exception, match="does not return from a call"):
            softhsm_token._sessions._recover(softhsm_token._sessions._era)
        _signs(softhsm_token, key)
    finally:
        leave.set()
        hanging.join()
    softhsm_token._sessions._recover(softhsm_token._sessions._era)
    _signs(softhsm_token, key)
