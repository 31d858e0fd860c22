"""The token, a trial key of each kind, and the keys that identities are given."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sidecar.config.identities import CertifiedSettings
from sidecar.config.settings import Settings, TokenSettings
from sidecar.core.schemes import KeyAlgorithm
from sidecar.doctor.finding import Finding, Verdict
from sidecar.doctor.sections import sections
from sidecar.errors import MeshkeyError
from sidecar.token.base import Assurance, KeyId, Origin, TokenKey
from sidecar.token.pkcs11 import Pkcs11Token
from sidecar.token.probe import try_out
from sidecar.token.report import AlgorithmReport, TokenReport


def examine_token(
    settings: Settings, open_token: Callable[[TokenSettings], Pkcs11Token]
) -> Iterator[Finding]:
    try:
        token = open_token(settings.token)
    except MeshkeyError as error:
        yield Finding("token", Verdict.FAILURE, str(error))
        return
    try:
        report = token.report
        yield Finding(
            "token", Verdict.OK, f"{report.label!r}, {report.model}, profile {report.profile}"
        )
        yield _assurance(token.assurance)
        yield _sessions(settings.token.threads, report)
        for tried in try_out(token, _algorithms(settings)).algorithms:
            yield from _key(tried)
        yield from _given_keys(settings, token)
    except MeshkeyError as error:
        yield Finding("trial key", Verdict.FAILURE, str(error))
    finally:
        token.close()


def _algorithms(settings: Settings) -> list[KeyAlgorithm]:
    """Of the keys that would be made, each once."""
    identities = [identity for _, identity in sections(settings)]
    if not identities and not settings.issuer:
        return [KeyAlgorithm.EC_P256]
    made = [identity.key_algorithm for identity in identities if identity.key_id is None]
    if settings.issuer:
        made.append(settings.issuer.key_algorithm)
    return list(dict.fromkeys(made))


def _given_keys(settings: Settings, token: Pkcs11Token) -> Iterator[Finding]:
    for section, identity in sections(settings):
        if identity.key_id is not None:
            key_id = KeyId(identity.key_id)
            held = list(token.keys())
            key = next((key for key in held if key.id == key_id), None)
            yield _given_key(f"{section}: key_id", key_id, key, identity)


def _given_key(
    check: str, key_id: KeyId, key: TokenKey | None, identity: CertifiedSettings
) -> Finding:
    if key is None:
        detail = f"no key {key_id}; list its keys with: meshkey keys list"
        return Finding(check, Verdict.FAILURE, detail)
    if key.origin is Origin.IMPORTED and not identity.allow_imported:
        detail = f"{key_id}: imported; if that is as it must be, set allow_imported"
        return Finding(check, Verdict.FAILURE, detail)
    bad = key.origin is Origin.EXPOSED
    return Finding(check, Verdict.FAILURE if bad else Verdict.OK, f"{key_id}: {key.origin.value}")


def _assurance(assurance: Assurance) -> Finding:
    if assurance is Assurance.HARDWARE:
        return Finding("assurance", Verdict.OK, "hardware")
    return Finding(
        "assurance",
        Verdict.WARNING,
        "software: whoever has the token's store and its PIN has the keys; for evaluation",
    )


def _sessions(threads: int, report: TokenReport) -> Finding:
    limit = "no limit" if report.session_limit is None else f"{report.session_limit} in all"
    if threads > report.concurrency:
        return Finding(
            "sessions",
            Verdict.WARNING,
            f"{limit}: {report.concurrency} of token.threads {threads} are used",
        )
    return Finding("sessions", Verdict.OK, f"{limit}, {threads} used and the login's")


def _key(tried: AlgorithmReport) -> Iterator[Finding]:
    if not tried.made:
        yield Finding("trial key", Verdict.FAILURE, tried.failure)
        return
    yield Finding("trial key", Verdict.OK, f"{tried.algorithm}, made in {tried.generation_ms} ms")
    born = tried.origin == Origin.BORN.value
    yield Finding(
        "readback",
        Verdict.OK if born else Verdict.FAILURE,
        "sensitive, not extractable, never was; made in the token" if born else tried.origin,
    )
    working = [scheme for scheme in tried.schemes if scheme.mechanism]
    yield Finding(
        "schemes",
        Verdict.OK if working else Verdict.FAILURE,
        ", ".join(f"{s.scheme} ({s.median_ms} ms)" for s in working) or "none works",
    )
