"""C_FindObjects, as `Session.get_objects` should do it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pkcs11
from pkcs11 import Attribute, ObjectClass, _pkcs11

from sidecar.token.base import KeyId

_BATCH = 10


class _Search(_pkcs11.SearchIter):  # type: ignore[misc, name-defined]  # not in its stubs
    """A search that ends without a word.

    Left to itself it calls C_FindObjectsFinal from its destructor after a search that could not
    even begin, and the error of that goes to standard error, past the log.
    """

    def _finalize(self, silent: bool = False) -> None:
        with suppress(pkcs11.PKCS11Error):
            super()._finalize(silent)


def find(session: pkcs11.Session, template: Mapping[Attribute, Any]) -> list[Any]:
    """All objects of which `template` is true. Blocks."""
    with _Search(session, dict(template), _BATCH) as search:
        return [found for batch in search for found in batch]


def all_of(
    session: pkcs11.Session, kind: ObjectClass
) -> list[pkcs11.PublicKey | pkcs11.PrivateKey]:
    """Every object of a class."""
    return find(session, {Attribute.CLASS: kind})


def first_of(
    session: pkcs11.Session, kind: ObjectClass, key_id: KeyId
) -> pkcs11.PublicKey | pkcs11.PrivateKey | None:
    """One half of a key pair, if it is there."""
    template = {Attribute.CLASS: kind, Attribute.ID: key_id.value}
    return next(iter(find(session, template)), None)


def destroy_all(session: pkcs11.Session, key_id: KeyId) -> None:
    """Destroys every object with that identifier."""
    for found in find(session, {Attribute.ID: key_id.value}):
        found.destroy()
