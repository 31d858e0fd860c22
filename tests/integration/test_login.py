"""Logging into the real SoftHSM2: a PIN is tried once, and not at all where it could lock."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pkcs11.constants import TokenFlag
from structlog.testing import capture_logs

from sidecar.core.token_selector import TokenSelector
from sidecar.demo.softhsm import SoftHsmStore
from sidecar.errors import ConfigurationError, PinLocked, PinRefused, TokenUnavailable
from sidecar.token.base import KeyId
from sidecar.token.login import Login
from sidecar.token.pin import Pin
from sidecar.token.pin_sources import GivenPin, PinFile, PinSource
from sidecar.token.pkcs11 import Pkcs11Token
from sidecar.token.profiles import SOFTHSM2
from sidecar.token.refusals import Refusals
from tests.conftest import MESH, MODULE
from tests.fixtures.keypad import Keypad
from tests.fixtures.requests import ALGORITHM, SCHEME

WRONG = "zq7x-not-the-pin"


@pytest.fixture
def keypad(softhsm: SoftHsmStore, short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Keypad:
    return Keypad(short_dir, monkeypatch)


@pytest.fixture
def pin_file(softhsm: SoftHsmStore) -> Path:
    """Holds the right PIN; `_write` changes that."""
    return softhsm.directory / "mesh.pin"


@pytest.fixture
def right(pin_file: Path) -> str:
    return pin_file.read_text(encoding="utf-8")


@pytest.fixture
def state(short_dir: Path) -> Path:
    return short_dir / "state"


def _write(file: Path, pin: str) -> None:
    """As an administrator does: a new file in the old one's place."""
    new = file.with_suffix(".new")
    new.write_text(pin, encoding="utf-8")
    new.chmod(0o400)
    new.replace(file)


@contextmanager
def _opened(login: Login, module: Path = MODULE) -> Iterator[Pkcs11Token]:
    token = Pkcs11Token.open(module, MESH, login, SOFTHSM2)
    try:
        yield token
    finally:
        token.close()


def _start(login: Login, module: Path = MODULE) -> None:
    """A start that gets as far as the login, and stops."""
    with _opened(login, module):
        pass


def _refusals(state: Path) -> Refusals:
    return Refusals.open(state, MODULE, MESH, lambda: datetime(2030, 1, 1, tzinfo=UTC))


# A refused PIN


def test_a_wrong_pin_is_one_clear_error_without_the_pin(keypad: Keypad, pin_file: Path) -> None:
    _write(pin_file, WRONG)
    with pytest.raises(PinRefused) as refused:
        _start(Login(PinFile(pin_file)), keypad.module)
    assert str(refused.value) == (
        f"token 'mesh' refused the PIN from token.pin_file {pin_file} (PinIncorrect); "
        "put the right one there and start again"
    )
    assert keypad.logins == ["C_Login with a PIN"]


def test_a_pin_that_changed_under_way_is_tried_once(
    keypad: Keypad, softhsm: SoftHsmStore, pin_file: Path
) -> None:
    with _opened(Login(PinFile(pin_file)), keypad.module) as token:
        key = token.generate(ALGORITHM, "web")
        keypad.answers(0xA0)  # CKR_PIN_INCORRECT
        elsewhere = softhsm.tokens.with_name("elsewhere")
        softhsm.tokens.rename(elsewhere)
        with pytest.raises(TokenUnavailable):
            token.sign(key.id, SCHEME, b"m")
        elsewhere.rename(softhsm.tokens)
        for _ in range(5):
            with pytest.raises(PinRefused, match="refused the PIN"):
                token.sign(key.id, SCHEME, b"m")
    assert len(keypad.logins) == 2, "the first, and one that was refused"


def test_a_token_that_was_closed_says_so(pin_file: Path) -> None:
    with _opened(Login(PinFile(pin_file))) as token:
        pass
    with pytest.raises(TokenUnavailable, match="is closed: this process is stopping"):
        token.sign(KeyId(b"any"), SCHEME, b"m")


def test_a_pin_that_the_token_cannot_take_is_refused_too(
    keypad: Keypad, state: Path, pin_file: Path
) -> None:
    keypad.answers(0xA2)  # CKR_PIN_LEN_RANGE
    with pytest.raises(PinRefused, match="PinLenRange"):
        _start(Login(PinFile(pin_file), _refusals(state)), keypad.module)
    assert _refusals(state).file.exists()


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (0xA4, PinLocked, "the PIN of token 'mesh' is locked: its security officer can"),
        (0xA3, PinRefused, "the PIN of token 'mesh' has expired: set a new one"),
    ],
)
def test_a_locked_and_an_expired_pin_are_no_wrong_ones(
    keypad: Keypad, state: Path, pin_file: Path, code: int, kind: type[Exception], message: str
) -> None:
    keypad.answers(code)
    with pytest.raises(kind, match=message):
        _start(Login(PinFile(pin_file), _refusals(state)), keypad.module)
    assert len(keypad.logins) == 1
    assert not _refusals(state).file.exists()


@pytest.mark.usefixtures("_no_pauses")
def test_any_other_answer_is_worth_another_try(keypad: Keypad, state: Path, pin_file: Path) -> None:
    keypad.answers(0x05)  # CKR_GENERAL_ERROR
    with pytest.raises(TokenUnavailable, match="GeneralError"):
        _start(Login(PinFile(pin_file), _refusals(state)), keypad.module)
    assert len(keypad.logins) > 1
    assert not _refusals(state).file.exists()


@pytest.fixture
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.token.pkcs11._START_PAUSE_S", 0.0)


# What the token says of its PIN


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (TokenFlag.USER_PIN_LOCKED, "is locked: its security officer can set a new one"),
        (TokenFlag.USER_PIN_FINAL_TRY, "locks at the next wrong PIN, so none is tried"),
        (TokenFlag.USER_PIN_FINAL_TRY | TokenFlag.USER_PIN_COUNT_LOW, "locks at the next"),
    ],
)
def test_a_token_that_is_locked_or_about_to_be_is_left_alone(
    keypad: Keypad, pin_file: Path, flags: TokenFlag, message: str
) -> None:
    keypad.flags(flags)
    with pytest.raises(PinLocked, match=message):
        _start(Login(PinFile(pin_file)), keypad.module)
    assert keypad.calls == ["C_Initialize"]
    keypad.flags(TokenFlag(0))
    _start(Login(PinFile(pin_file)), keypad.module)


def test_a_wrong_pin_of_somebody_else_is_a_warning(pin_file: Path) -> None:
    # SoftHSM2 sets CKF_USER_PIN_COUNT_LOW by itself.
    with pytest.raises(PinRefused):
        _start(Login(GivenPin("test", Pin(WRONG))))
    for expected in ([{"token": "mesh"}], []):
        with capture_logs() as logs:
            _start(Login(PinFile(pin_file)))
        warned = [{"token": entry["token"]} for entry in logs if "wrong PIN" in entry["event"]]
        assert warned == expected


class _Unread(PinFile):
    def read(self) -> Pin:
        raise AssertionError("a PIN was read that nobody needs")


def test_a_token_with_a_keypad_gets_no_pin_and_none_is_read(
    keypad: Keypad, pin_file: Path, right: str, short_dir: Path
) -> None:
    _write(short_dir / "entered", right)
    keypad.entered(short_dir / "entered")
    sources: Sequence[PinSource | None] = [None, _Unread(pin_file)]
    for source in sources:
        with _opened(Login(source), keypad.module) as token:
            key = token.generate(ALGORITHM, "web")
            assert token.sign(key.id, SCHEME, b"m")
    assert keypad.logins == ["C_Login without a PIN"] * 2


@pytest.mark.parametrize("code", [0xA0, 0x50, 0x200], ids=["wrong", "cancelled", "rejected"])
def test_what_is_refused_at_the_keypad_is_not_asked_for_again(
    keypad: Keypad, short_dir: Path, code: int
) -> None:
    keypad.entered(short_dir / "nothing")
    keypad.answers(code)
    with pytest.raises(PinRefused, match="refused what was entered on its keypad"):
        _start(Login(None), keypad.module)
    assert len(keypad.logins) == 1


def test_a_token_without_a_keypad_and_a_source_names_the_sources(keypad: Keypad) -> None:
    with pytest.raises(ConfigurationError) as refused:
        _start(Login(None), keypad.module)
    for place in ("token.pin_file", "token.pin_sealed", "meshkey.mesh.pin as a credential"):
        assert place in str(refused.value)
    assert not keypad.logins


# PINs that everybody knows


@pytest.mark.parametrize("known", ["1234", "HSMUserPin", "hsmuserpin", "648219", "Password"])
def test_a_pin_that_everybody_knows_is_refused_before_the_token_sees_it(
    keypad: Keypad, pin_file: Path, known: str
) -> None:
    _write(pin_file, known)
    with pytest.raises(ConfigurationError, match="a PIN that everybody knows") as refused:
        _start(Login(PinFile(pin_file)), keypad.module)
    assert known not in str(refused.value)
    assert not keypad.logins


def test_in_development_it_is_not(keypad: Keypad, pin_file: Path) -> None:
    _write(pin_file, "1234")
    with pytest.raises(PinRefused):
        _start(Login(PinFile(pin_file), default_pins=True), keypad.module)
    assert len(keypad.logins) == 1


# The next start


def test_the_next_start_does_not_touch_the_token_until_the_pin_file_changes(
    keypad: Keypad, state: Path, pin_file: Path, right: str
) -> None:
    _write(pin_file, WRONG)
    with pytest.raises(PinRefused, match="put the right one there and start again"):
        _start(Login(PinFile(pin_file), _refusals(state)), keypad.module)
    touched = keypad.calls
    for _ in range(3):
        with pytest.raises(PinRefused) as refused:
            _start(Login(PinFile(pin_file), _refusals(state)), keypad.module)
        assert f"from token.pin_file {pin_file} at 2030-01-01T00:00:00" in str(refused.value)
        assert f"or remove {_refusals(state).file} to try again" in str(refused.value)
    assert keypad.calls == touched
    _write(pin_file, right)
    _start(Login(PinFile(pin_file), _refusals(state)), keypad.module)
    assert not _refusals(state).file.exists()
    _start(Login(PinFile(pin_file), _refusals(state)), keypad.module)


def test_a_module_is_not_even_loaded_for_a_pin_that_was_refused(
    state: Path, pin_file: Path
) -> None:
    _write(pin_file, WRONG)
    with pytest.raises(PinRefused):
        _start(Login(PinFile(pin_file), _refusals(state)))
    with pytest.raises(PinRefused, match="it is still the same"):
        _start(Login(PinFile(pin_file), _refusals(state)), Path("/no/module"))


def test_after_two_refused_pins_in_a_row_nothing_is_tried(
    keypad: Keypad, state: Path, pin_file: Path, right: str
) -> None:
    for number in range(2):
        _write(pin_file, f"{WRONG}-{number}")
        with pytest.raises(PinRefused, match="put the right one there and start again"):
            _start(Login(PinFile(pin_file), _refusals(state)), keypad.module)
    touched = keypad.calls
    _write(pin_file, right)
    with pytest.raises(PinRefused, match="refused 2 PINs in a row") as refused:
        _start(Login(PinFile(pin_file), _refusals(state)), keypad.module)
    assert keypad.calls == touched
    assert f"then remove {_refusals(state).file}" in str(refused.value)
    _refusals(state).file.unlink()
    _start(Login(PinFile(pin_file), _refusals(state)), keypad.module)


def test_a_refused_pin_without_a_file_is_tried_again_only_by_hand(
    keypad: Keypad, state: Path
) -> None:
    for number in range(3):
        with pytest.raises(PinRefused):
            _start(
                Login(GivenPin("test", Pin(f"{WRONG}-{number}")), _refusals(state)), keypad.module
            )
    assert len(keypad.logins) == 1


def test_a_refusal_that_cannot_be_remembered_is_still_the_refusal(
    state: Path, pin_file: Path
) -> None:
    _write(pin_file, WRONG)
    refusals = _refusals(state)
    state.rmdir()
    with capture_logs() as logs, pytest.raises(PinRefused, match="put the right one there"):
        _start(Login(PinFile(pin_file), refusals))
    assert [entry["event"] for entry in logs] == ["refused PIN not remembered"]


def test_what_is_remembered_is_nothing_of_the_pin(state: Path, pin_file: Path) -> None:
    _write(pin_file, WRONG)
    with pytest.raises(PinRefused):
        _start(Login(PinFile(pin_file), _refusals(state)))
    status = pin_file.stat()
    assert json.loads(_refusals(state).file.read_text(encoding="utf-8")) == {
        "time": "2030-01-01T00:00:00+00:00",
        "count": 1,
        "source": f"token.pin_file {pin_file}",
        "fingerprint": [f"{status.st_dev}:{status.st_ino}:{status.st_mtime_ns}:{status.st_size}"],
    }
    assert {path.stat().st_mode & 0o777 for path in state.iterdir()} == {0o600}
    assert state.stat().st_mode & 0o777 == 0o700


def test_each_token_has_its_own_memory(state: Path, pin_file: Path, right: str) -> None:
    _write(pin_file, WRONG)
    with pytest.raises(PinRefused):
        _start(Login(PinFile(pin_file), _refusals(state)))
    other = Refusals.open(state, MODULE, TokenSelector(label="other"))
    other.check(PinFile(pin_file))


# Which token


def _serial(softhsm: SoftHsmStore) -> str:
    (directory,) = softhsm.tokens.iterdir()
    return directory.name.replace("-", "")[-16:]


@pytest.mark.parametrize("by", ["label", "serial", "all"])
def test_a_token_is_chosen_by_what_it_says_of_itself(
    softhsm: SoftHsmStore, pin_file: Path, by: str
) -> None:
    selector = {
        "label": MESH,
        "serial": TokenSelector(serial=_serial(softhsm)),
        "all": TokenSelector("mesh", _serial(softhsm), "SoftHSM project", "SoftHSM v2"),
    }[by]
    token = Pkcs11Token.open(MODULE, selector, Login(PinFile(pin_file)), SOFTHSM2)
    assert token.label == "mesh"
    token.close()


@pytest.mark.usefixtures("_no_pauses")
def test_a_selector_without_a_match_lists_what_is_there(
    softhsm: SoftHsmStore, pin_file: Path
) -> None:
    selector = TokenSelector(label="mesh", serial="0" * 16)
    with pytest.raises(TokenUnavailable) as refused:
        Pkcs11Token.open(MODULE, selector, Login(PinFile(pin_file)), SOFTHSM2)
    assert f"has 0 tokens labelled 'mesh', with serial {'0' * 16!r}, one" in str(refused.value)
    assert f"it has: 'mesh' (serial {_serial(softhsm)!r}, 'SoftHSM v2', slot" in str(refused.value)


@pytest.mark.usefixtures("_no_pauses")
def test_a_selector_with_several_matches_is_refused(softhsm: SoftHsmStore, pin_file: Path) -> None:
    softhsm.initialise("other")
    with pytest.raises(TokenUnavailable, match=r"has \d tokens of model 'SoftHSM v2', one is"):
        Pkcs11Token.open(
            MODULE, TokenSelector(model="SoftHSM v2"), Login(PinFile(pin_file)), SOFTHSM2
        )
