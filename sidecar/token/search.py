"""Objects of a token, by class and identifier."""

from __future__ import annotations

import pkcs11
from pkcs11 import Attribute, ObjectClass

from sidecar.token.base import KeyId


def all_of(
    session: pkcs11.Session, kind: ObjectClass
) -> list[pkcs11.PublicKey | pkcs11.PrivateKey]:
    """Every object of a class."""
    return list(session.get_objects({Attribute.CLASS: kind}))


def first_of(
    session: pkcs11.Session, kind: ObjectClass, key_id: KeyId
) -> pkcs11.PublicKey | pkcs11.PrivateKey | None:
    """One half of a key pair, if it is there."""
    template = {Attribute.CLASS: kind, Attribute.ID: key_id.value}
    return next(iter(list(session.get_objects(template))), None)


def destroy_all(session: pkcs11.Session, key_id: KeyId) -> None:
    """Destroys every object with that identifier."""
    for found in list(session.get_objects({Attribute.ID: key_id.value})):
        found.destroy()


def require_presence(session: pkcs11.Session) -> None:
    """Raises what the token says if it is not there."""
    # SoftHSM2 finds nothing on a token that is gone, and calls that a success; C_GetTokenInfo
    # is what fails. So nobody may conclude from an empty search that a key is not there.
    session.token.slot.get_token()
