"""Finds out what a token can do: what it says, and what trial keys show."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pkcs11
from pkcs11 import Attribute, Mechanism, MechanismFlag, TokenFlag

from sidecar.core.schemes import KeyAlgorithm
from sidecar.errors import MechanismMissing, TokenError, TokenUnavailable
from sidecar.token.base import Assurance, KeyId, Origin
from sidecar.token.keypair import make_key_pair, templates
from sidecar.token.library import Library
from sidecar.token.profiles import TokenProfile, assurance_of, profile_of
from sidecar.token.report import AlgorithmReport, MechanismReport, SchemeReport, TokenReport

if TYPE_CHECKING:
    from sidecar.token.pkcs11 import Pkcs11Token

_MOST_THREADS = 64
_TRIAL_LABEL = "meshkey:trial"
_TIMES = 9
_MAKES_KEYS = {Mechanism.EC_KEY_PAIR_GEN, Mechanism.RSA_PKCS_KEY_PAIR_GEN}


def look_at(
    library: Library, token: pkcs11.Token, session: pkcs11.Session, profile: TokenProfile
) -> TokenReport:
    """What the token says of itself, and whether it keeps session objects. Blocks."""
    mechanisms = _mechanisms(token.slot)
    limit = library.session_limit(token.slot.slot_id)
    model = _text(token.model)
    assurance = assurance_of(profile, model, hardware_flag=_in_hardware(mechanisms))
    if profile_of(library.name).assurance is Assurance.SOFTWARE:
        assurance = Assurance.SOFTWARE  # whatever profile was set: the module is known
    return TokenReport(
        label=str(token.label),
        serial=_text(token.serial),
        model=model,
        manufacturer=_text(token.manufacturer_id),
        library=library.description,
        profile=profile.name,
        assurance=assurance.value,
        protected_authentication_path=bool(token.flags & TokenFlag.PROTECTED_AUTHENTICATION_PATH),
        session_limit=limit,
        concurrency=_concurrency(profile, limit),
        session_objects=profile.session_objects and _keeps_session_objects(session, profile),
        mechanisms=mechanisms,
    )


def try_out(
    token: Pkcs11Token,
    algorithms: Sequence[KeyAlgorithm],
    progress: Callable[[KeyAlgorithm], None] = lambda _: None,
) -> TokenReport:
    """The report with a trial of each algorithm: a key is made, used and destroyed. Blocks.

    What a trial that was cut off left behind goes first.
    """
    held = token.keys()
    for key in held:
        if key.label == _TRIAL_LABEL:
            token.destroy(key.id)
    tried = []
    for algorithm in algorithms:
        progress(algorithm)
        tried.append(_try(token, algorithm))
    return replace(token.report, algorithms=tuple(tried))


def _try(token: Pkcs11Token, algorithm: KeyAlgorithm) -> AlgorithmReport:
    started = time.monotonic()
    try:
        key = token.generate(algorithm, _TRIAL_LABEL)
    except TokenUnavailable:
        raise
    except TokenError as error:
        return AlgorithmReport(algorithm.value, False, None, Origin.EXPOSED.value, (), str(error))
    generation_ms = _ms(time.monotonic() - started)
    try:
        try:
            seen = token.schemes(key)
        except MechanismMissing:
            seen = ()
        schemes = []
        for scheme in algorithm.schemes:
            way = token.signing.way(scheme)
            if scheme in seen and way:
                median = _ms(token.signing.measure(key, scheme, _TIMES))
                schemes.append(SchemeReport(scheme.name, way.mechanism.name, way.given, median))
            else:
                schemes.append(SchemeReport(scheme.name, None, "", None))
    finally:
        token.destroy(key.id)
    return AlgorithmReport(algorithm.value, True, generation_ms, key.origin.value, tuple(schemes))


def _mechanisms(slot: pkcs11.Slot) -> tuple[MechanismReport, ...]:
    reports = []
    for mechanism in slot.get_mechanisms():
        name = mechanism.name if isinstance(mechanism, Mechanism) else f"0x{int(mechanism):08x}"
        try:
            info = slot.get_mechanism_info(mechanism)
        except pkcs11.PKCS11Error:
            continue  # listed and not described: not to be relied on
        flags = tuple(flag.name or "" for flag in MechanismFlag if info.flags & flag)
        smallest, largest = info.min_key_length, info.max_key_length
        reports.append(MechanismReport(name, flags, smallest, largest))
    return tuple(sorted(reports, key=lambda report: report.name))


def _in_hardware(mechanisms: Sequence[MechanismReport]) -> bool:
    making = [m for m in mechanisms if m.name in {each.name for each in _MAKES_KEYS}]
    return bool(making) and all("HW" in m.flags for m in making)


def _keeps_session_objects(session: pkcs11.Session, profile: TokenProfile) -> bool:
    key_id = KeyId(secrets.token_bytes(16))
    wished = templates(profile)
    try:
        pair = make_key_pair(
            session, KeyAlgorithm.EC_P256, wished, key_id=key_id, label=_TRIAL_LABEL, store=False
        )
        kept = not any(bool(half[Attribute.TOKEN]) for half in pair)
        for half in pair:
            half.destroy()
    except pkcs11.PKCS11Error:
        return False
    return kept


def _concurrency(profile: TokenProfile, session_limit: int | None) -> int:
    # One session is the login's, unless it is the only one.
    sessions = max(1, session_limit - 1) if session_limit else _MOST_THREADS
    return min(profile.concurrency or _MOST_THREADS, sessions, _MOST_THREADS)


def _text(value: object) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text.strip("\0 ")


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
