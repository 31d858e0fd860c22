"""What the doctor says of the files that callers' tokens are verified with."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from sidecar.config.callers import BearerSettings
from sidecar.doctor.bearer import examine_bearer
from sidecar.doctor.finding import Finding, Verdict
from tests.fixtures.bearers import AUDIENCE, ISSUER, NOW, issuer, key_set


def _found(directory: Path) -> Finding:
    jwks, revoked = directory / "jwks.json", directory / "revoked"
    settings = BearerSettings(jwks, AUDIENCE, ISSUER, revoked, timedelta(hours=1))
    return examine_bearer(settings, NOW)


def test_files_that_would_refuse_the_start_are_a_failure(tmp_path: Path) -> None:
    missing = _found(tmp_path)
    assert missing.verdict is Verdict.FAILURE
    assert missing.detail.startswith("bearer.jwks: file ")
    (tmp_path / "jwks.json").write_bytes(key_set(issuer("one").entry))
    assert _found(tmp_path).detail.startswith("bearer.revoked: file ")
    (tmp_path / "revoked").touch()
    assert _found(tmp_path).verdict is Verdict.OK
