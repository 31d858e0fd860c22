"""Which attribute a token refuses, when all that it says is that it refuses the template."""

from __future__ import annotations

import secrets

import pkcs11

from sidecar.core.schemes import KeyAlgorithm
from sidecar.token.base import KeyId
from sidecar.token.keypair import Templates, make_key_pair

TEMPLATE_REFUSALS = (
    pkcs11.AttributeTypeInvalid,
    pkcs11.AttributeValueInvalid,
    pkcs11.TemplateInconsistent,
)


def refused_attribute(
    session: pkcs11.Session, algorithm: KeyAlgorithm, wished: Templates
) -> str | None:
    """The first attribute without which such a key can be made, as `CKA_WRAP=False (public)`.

    `None` if none is to blame alone. What is made to find out is destroyed at once. Blocks.
    """
    for half, name in enumerate(("public", "private")):
        for attribute, value in wished[half].items():
            without = (dict(wished[0]), dict(wished[1]))
            without[half][attribute] = None
            if value is not None and _can_be_made(session, algorithm, without):
                return f"CKA_{attribute.name}={value} ({name})"
    return None


def _can_be_made(session: pkcs11.Session, algorithm: KeyAlgorithm, wished: Templates) -> bool:
    key_id = KeyId(secrets.token_bytes(16))
    try:
        pair = make_key_pair(session, algorithm, wished, key_id=key_id, label="meshkey:trial")
    except TEMPLATE_REFUSALS:
        return False
    for half in pair:
        half.destroy()
    return True
