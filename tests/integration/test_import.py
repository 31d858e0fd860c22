"""Keys from outside on the real SoftHSM2: how they get in, and what a failure leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pkcs11 import Attribute
from structlog.testing import capture_logs

from sidecar.core.private_key import PrivateKey
from sidecar.core.public_key import verify
from sidecar.core.schemes import KeyAlgorithm
from sidecar.demo.softhsm import SoftHsmStore
from sidecar.errors import (
    KeyUnsuitable,
    MechanismMissing,
    TokenError,
    TokenFull,
    TokenUnavailable,
)
from sidecar.token import importing
from sidecar.token.base import ImportWay, Origin
from sidecar.token.login import Login
from sidecar.token.pin_sources import PinFile
from sidecar.token.pkcs11 import Pkcs11Token
from sidecar.token.profiles import SOFTHSM2
from tests.conftest import MESH, OpenToken
from tests.e2e.shim import Shim
from tests.fixtures.private_keys import pkcs8, some_key

KEY = some_key(KeyAlgorithm.EC_P256)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making the wrapping key is most of an import; the contract tests have it full size."""
    monkeypatch.setattr(importing, "_WRAPPING_BITS", 2048)


@pytest.fixture
def shim(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Shim:
    made = Shim.build(short_dir)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def token(shim: Shim, softhsm: SoftHsmStore) -> Iterator[Pkcs11Token]:
    login = Login(PinFile(softhsm.directory / "mesh.pin"))
    opened = Pkcs11Token.open(shim.module, MESH, login, SOFTHSM2)
    yield opened
    opened.close()


def _objects(token: Pkcs11Token) -> list[str]:
    """Everything that is there, session objects included."""
    return token._sessions.use(
        "counting", lambda state: [str(found) for found in state.session.get_objects({})]
    )


def _require_signature(token: Pkcs11Token, private_key: PrivateKey) -> None:
    (key,) = token.keys()
    scheme = token.schemes(key)[0]
    verify(private_key.public_key(), scheme, token.sign(key.id, scheme, b"m"), b"m")


@pytest.mark.parametrize("algorithm", [*KeyAlgorithm])
def test_every_kind_that_softhsm2_unwraps_is_wrapped(
    token: Pkcs11Token, algorithm: KeyAlgorithm
) -> None:
    # SoftHSM2 2.6 unwraps no Ed25519 keys.
    created = algorithm is KeyAlgorithm.ED25519
    with capture_logs() as logs:
        imported = token.import_key(some_key(algorithm), "in")
    assert imported.way is (ImportWay.CREATED if created else ImportWay.WRAPPED)
    (line,) = [entry for entry in logs if entry["event"] == "key imported"]
    assert (line["way"], line["log_level"]) == (
        imported.way.value,
        "warning" if created else "info",
    )
    assert len(_objects(token)) == 2, "both halves, and nothing that was needed on the way"


def test_the_token_says_that_it_signs_and_does_nothing_else(token: Pkcs11Token) -> None:
    key = token.import_key(KEY, "in").key
    attributes = [
        Attribute.SENSITIVE,
        Attribute.EXTRACTABLE,
        Attribute.SIGN,
        Attribute.DECRYPT,
        Attribute.DERIVE,
        Attribute.UNWRAP,
        Attribute.LOCAL,
        Attribute.NEVER_EXTRACTABLE,
    ]
    said = token._sessions.use(
        "reading",
        lambda state: [
            token.holdings.private_half(state, key.id)[attribute] for attribute in attributes
        ],
    )
    assert said == [True, False, True, False, False, False, False, False]


@pytest.mark.parametrize("code", ["0x54", "0x70", "0x71", "0x110", "0x6", "0x5"])
def test_a_token_that_does_not_unwrap_is_given_the_value(
    token: Pkcs11Token, shim: Shim, code: str
) -> None:
    shim.rule(f"C_UnwrapKey fail {code}")
    assert token.import_key(KEY, "in").way is ImportWay.CREATED
    assert len(_objects(token)) == 2
    _require_signature(token, KEY)


def test_so_is_one_that_makes_no_wrapping_key(token: Pkcs11Token, shim: Shim) -> None:
    shim.rule("C_GenerateKeyPair fail 0x54")
    assert token.import_key(KEY, "in").way is ImportWay.CREATED
    assert token.keys()[0].origin is Origin.IMPORTED


def test_wrapping_works_without_session_objects_and_leaves_nothing(
    open_token: OpenToken,
) -> None:
    token = open_token(replace(SOFTHSM2, session_objects=False))
    assert token.import_key(KEY, "in").way is ImportWay.WRAPPED
    assert len(_objects(token)) == 2


@pytest.mark.parametrize(
    ("rules", "kind"),
    [
        # The public half comes last, when the private one is there already.
        (("C_CreateObject fail 0x54",), MechanismMissing),
        (("C_CreateObject fail 0x31",), TokenFull),
        (("C_CreateObject fail 0xD1",), TokenError),
        (("C_CreateObject fail 0xB3",), TokenUnavailable),
        (("C_CreateObject fail 0x30",), TokenUnavailable),
        (("C_UnwrapKey fail 0x31",), TokenFull),
        (("C_UnwrapKey fail 0xB3",), TokenUnavailable),
        (("C_UnwrapKey fail 0x30",), TokenUnavailable),
        (("C_SignInit fail 0x70",), MechanismMissing),
        (("C_Sign fail 0x30",), TokenUnavailable),
    ],
    ids=str,
)
@pytest.mark.parametrize("session_objects", [True, False])
def test_nothing_of_a_failed_import_is_left(
    shim: Shim,
    softhsm: SoftHsmStore,
    rules: tuple[str, ...],
    kind: type[Exception],
    session_objects: bool,
) -> None:
    login = Login(PinFile(softhsm.directory / "mesh.pin"))
    profile = replace(SOFTHSM2, session_objects=session_objects)
    token = Pkcs11Token.open(shim.module, MESH, login, profile)
    try:
        shim.rule(*rules)
        with pytest.raises(kind):
            token.import_key(KEY, "in")
        shim.rule()
        assert _objects(token) == []
        token.import_key(KEY, "in")
        _require_signature(token, KEY)
    finally:
        token.close()


def test_a_key_that_could_leave_again_is_destroyed(open_token: OpenToken) -> None:
    leaky = {**SOFTHSM2.private_template, Attribute.EXTRACTABLE: True}
    token = open_token(replace(SOFTHSM2, private_template=leaky))
    with pytest.raises(KeyUnsuitable, match="EXTRACTABLE is True"):
        token.import_key(KEY, "in")
    assert _objects(token) == []


def test_a_token_that_calls_an_imported_key_its_own_is_not_believed(
    token: Pkcs11Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "origin_of", lambda _key: Origin.BORN)
    with pytest.raises(KeyUnsuitable, match="that it was made inside"):
        token.import_key(KEY, "in")
    assert _objects(token) == []


def _another_value(private_key: PrivateKey) -> dict[Attribute, object]:
    from sidecar.token.halves import private_value

    return private_value(some_key(KeyAlgorithm.EC_P256))


def test_a_token_that_holds_another_value_is_found_out_by_its_signature(
    token: Pkcs11Token, shim: Shim, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim.rule("C_UnwrapKey fail 0x54")
    monkeypatch.setattr(importing, "private_value", _another_value)
    for seen in (False, True):
        with pytest.raises(TokenError):
            token.import_key(KEY, "in")
        assert _objects(token) == [], seen
        born = token.generate(KeyAlgorithm.EC_P256, "born")
        token.schemes(born)  # now P-256 was seen to work
        token.destroy(born.id)


def test_the_value_is_in_no_file_and_no_log(
    token: Pkcs11Token, softhsm: SoftHsmStore, capfd: pytest.CaptureFixture[str]
) -> None:
    with capture_logs() as logs:
        token.import_key(KEY, "in")
    value = KEY.private_numbers().private_value.to_bytes(32)  # type: ignore[union-attr]
    said = repr(logs) + "".join(capfd.readouterr())
    assert value.hex() not in said
    assert pkcs8(KEY).decode().splitlines()[1] not in said
    for file in softhsm.directory.rglob("*"):
        assert not file.is_file() or value not in file.read_bytes()


def test_a_token_without_the_mechanism_is_not_given_the_key(
    token: Pkcs11Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = tuple(m for m in token.report.mechanisms if m.name != "EDDSA")
    monkeypatch.setattr(token, "_report", replace(token.report, mechanisms=without))
    run: Callable[..., object] = lambda *_: pytest.fail("it was given the key")  # noqa: E731
    monkeypatch.setattr(importing.Attempt, "run", run)
    with pytest.raises(MechanismMissing, match="no scheme of ed25519"):
        token.import_key(some_key(KeyAlgorithm.ED25519), "in")
