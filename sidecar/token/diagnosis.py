"""What a token refuses about a key, when all that it says is that it refuses it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pkcs11

from sidecar.core.schemes import KeyAlgorithm
from sidecar.token.base import KeyId
from sidecar.token.keypair import Templates, make_key_pair, templates
from sidecar.token.profiles import PROFILES, TokenProfile

# What modules answer to a template that they do not like; tpm2-pkcs11 the vaguer ones.
TEMPLATE_REFUSALS = (
    pkcs11.AttributeTypeInvalid,
    pkcs11.AttributeValueInvalid,
    pkcs11.FunctionFailed,
    pkcs11.GeneralError,
    pkcs11.TemplateInconsistent,
)


def refused_attributes(
    session: pkcs11.Session, algorithm: KeyAlgorithm, profile: TokenProfile
) -> tuple[list[str], str] | None:
    """The attributes that the token refuses, as `CKA_WRAP=False (public)`, and a way out.

    `None` if it takes them after all, or no others either. What is made to find out is
    destroyed at once. Blocks, for RSA some seconds.
    """
    wished = templates(profile)
    if _can_be_made(session, algorithm, wished):
        return None
    candidates = _others(wished)
    found = next((each for each in candidates if _can_be_made(session, algorithm, each[1])), None)
    if found is None:
        return None
    name, fitting = found
    different = list(_differences(fitting, wished))
    blamed = [
        f"CKA_{attribute.name}={wished[half][attribute]} ({('public', 'private')[half]})"
        for half, attribute in different
        if not _can_be_made(session, algorithm, _with(fitting, wished, half, attribute))
    ]
    return blamed, name


def _others(wished: Templates) -> Iterator[tuple[str, Templates]]:
    """What every profile would ask for, and then next to nothing."""
    seen = [wished]
    for profile in PROFILES.values():
        if (other := templates(profile)) not in seen:
            seen.append(other)
            yield profile.name, other
    bare: Templates = (dict.fromkeys(wished[0]), dict.fromkeys(wished[1]))
    yield "", bare


def _differences(one: Templates, other: Templates) -> Iterator[tuple[int, pkcs11.Attribute]]:
    for half in (0, 1):
        for attribute, value in other[half].items():
            if value is not None and one[half].get(attribute) is not value:
                yield half, attribute


def _with(
    fitting: Templates, wished: Templates, half: int, attribute: pkcs11.Attribute
) -> Templates:
    changed = (dict(fitting[0]), dict(fitting[1]))
    changed[half][attribute] = wished[half][attribute]
    return changed


def _can_be_made(session: pkcs11.Session, algorithm: KeyAlgorithm, wished: Templates) -> bool:
    key_id = KeyId(secrets.token_bytes(16))
    try:
        pair = make_key_pair(session, algorithm, wished, key_id=key_id, label="meshkey:trial")
    except TEMPLATE_REFUSALS:
        return False
    for half in pair:
        half.destroy()
    return True
