"""Errors on the wire: who asks can always tell "later" from "no"."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from sidecar import errors
from sidecar.errors import LoginRefused, MeshkeyError, Retryable
from sidecar.rpc.status import status_of

EXPECTED = {
    errors.TokenUnavailable("x"): StatusCode.UNAVAILABLE,
    errors.PinRefused("x"): StatusCode.UNAVAILABLE,
    errors.PinLocked("x"): StatusCode.UNAVAILABLE,
    errors.SignerBusy("x"): StatusCode.UNAVAILABLE,
    errors.AuthorityUnavailable("x"): StatusCode.UNAVAILABLE,
    errors.CsrRefused("x"): StatusCode.INVALID_ARGUMENT,
    errors.DiscoveryRefused("x"): StatusCode.INVALID_ARGUMENT,
    errors.UnknownIdentity("x"): StatusCode.NOT_FOUND,
    errors.UnknownSecret("x"): StatusCode.NOT_FOUND,
    errors.SecretNotReady("x"): StatusCode.UNAVAILABLE,
    errors.AuthorityError("x"): StatusCode.FAILED_PRECONDITION,
    errors.CertificateRefused("x"): StatusCode.FAILED_PRECONDITION,
    errors.TokenError("x"): StatusCode.FAILED_PRECONDITION,
    errors.KeyUnsuitable("x"): StatusCode.FAILED_PRECONDITION,
    errors.NoSuchKey("x"): StatusCode.FAILED_PRECONDITION,
    errors.MechanismMissing("x"): StatusCode.FAILED_PRECONDITION,
    errors.TokenFull("x"): StatusCode.RESOURCE_EXHAUSTED,
    errors.UnknownKey("x"): StatusCode.NOT_FOUND,
    errors.IdentityDeprovisioned("x"): StatusCode.FAILED_PRECONDITION,
    errors.NotDeprovisioned("x"): StatusCode.FAILED_PRECONDITION,
    errors.KeyRevoked("x"): StatusCode.FAILED_PRECONDITION,
    errors.ReloadRefused("x"): StatusCode.FAILED_PRECONDITION,
    errors.StateUnwritable("x"): StatusCode.UNAVAILABLE,
    errors.KeyChanged("x"): StatusCode.DATA_LOSS,
    errors.ConfigurationError("x"): StatusCode.INTERNAL,
    errors.StartFailed("x"): StatusCode.INTERNAL,
}


@pytest.mark.parametrize(("error", "code"), EXPECTED.items(), ids=lambda v: type(v).__name__)
def test_the_type_of_an_error_decides_its_status(error: MeshkeyError, code: StatusCode) -> None:
    assert status_of(error) is code


def _below(kind: type[MeshkeyError]) -> set[type[MeshkeyError]]:
    return {kind}.union(*(_below(child) for child in kind.__subclasses__()))


def test_what_is_retryable_or_has_no_login_is_unavailable_and_nothing_else_is() -> None:
    unavailable = (Retryable, LoginRefused)
    for kind in _below(MeshkeyError) - {errors.SigningRefused}:
        assert (status_of(kind("x")) is StatusCode.UNAVAILABLE) == issubclass(kind, unavailable)


def test_whatever_a_token_says_has_a_status_of_its_own() -> None:
    for kind in _below(errors.TokenError):
        assert status_of(kind("x")) is not StatusCode.INTERNAL
