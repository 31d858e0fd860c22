"""What each token does with each kind of key, against what is written down."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, cast

import pytest
from pkcs11 import Attribute, ObjectClass

from sidecar.core.public_key import verify
from sidecar.core.schemes import KeyAlgorithm, SignatureScheme
from sidecar.errors import TokenError
from sidecar.token.pkcs11 import Pkcs11Token
from sidecar.token.probe import try_out
from sidecar.token.report import TokenReport

MATRIX = Path(__file__).with_name("token_matrix.toml")
EXPECTED: dict[str, Any] = tomllib.loads(MATRIX.read_text(encoding="utf-8"))
# As long as what a TLS 1.3 handshake signs, and far longer than a module's buffers.
MESSAGES = (bytes(range(130)), b"x" * 1_000_000)
READ_BACK = ("SENSITIVE", "EXTRACTABLE", "ALWAYS_SENSITIVE", "NEVER_EXTRACTABLE", "LOCAL")


@pytest.fixture(params=["softhsm", "tpm2", "p11_kit"])
def token(request: pytest.FixtureRequest) -> Pkcs11Token:
    return cast("Pkcs11Token", request.getfixturevalue(f"{request.param}_token"))


def test_a_token_is_the_one_that_is_written_down(token: Pkcs11Token) -> None:
    expected = EXPECTED[token.report.profile]["token"]
    assert _described(token.report) == expected, (
        f"another version of its module: look through what {MATRIX.name} says of it, "
        "and what docs/tokens does"
    )


@pytest.mark.parametrize("algorithm", KeyAlgorithm, ids=lambda each: each.value)
def test_a_token_does_what_is_written_down_and_nothing_else(
    token: Pkcs11Token, algorithm: KeyAlgorithm
) -> None:
    expected = EXPECTED[token.report.profile]
    (seen,) = try_out(token, [algorithm]).algorithms
    assert token.keys() == [], "the trial left a key behind"
    schemes = [scheme.scheme for scheme in seen.schemes if scheme.mechanism]
    found: dict[str, Any]
    if schemes:
        key = token.generate(algorithm, "web")
        found = {"schemes": schemes, "origin": seen.origin, "readback": _read_back(token)}
        for scheme in token.schemes(key):
            for message in MESSAGES:
                verify(key.public_key, scheme, token.sign(key.id, scheme, message), message)
    else:
        found = {"schemes": [], "failure": seen.failure}
        with pytest.raises(TokenError):
            token.generate(algorithm, "web")
        assert token.keys() == []
    assert found == expected[algorithm.value], (
        f"{MATRIX.name} says otherwise; written down is {expected['token']}, "
        f"this is {_described(token.report)}"
    )


def test_what_is_written_down_is_of_every_algorithm_and_nothing_unknown() -> None:
    for name, expected in EXPECTED.items():
        algorithms = {each.value for each in KeyAlgorithm}
        assert set(expected) == {"token"} | algorithms, name
        for algorithm in algorithms:
            assert set(expected[algorithm]["schemes"]) <= set(SignatureScheme.__members__)


def _described(report: TokenReport) -> dict[str, Any]:
    names = ("library", "manufacturer", "model", "assurance")
    return {name: getattr(report, name) for name in names}


def _read_back(token: Pkcs11Token) -> list[str]:
    """Which of the attributes are true."""
    template = {Attribute.CLASS: ObjectClass.PRIVATE_KEY}
    (private,) = token._sessions.use(
        "a test", lambda state: list(state.session.get_objects(template))
    )
    return [name for name in READ_BACK if private[Attribute[name]]]
