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


def find_kind(session: pkcs11.Session, kind: ObjectClass) -> list[Any]:
    """All objects of one class. Blocks."""
    return _find(session, {Attribute.CLASS: kind})


def find_halves(session: pkcs11.Session, key_id: KeyId) -> list[Any]:
    """Both halves of a key pair, as far as they are there. Blocks."""
    return _find(session, {Attribute.ID: key_id.value})


def find_half(session: pkcs11.Session, kind: ObjectClass, key_id: KeyId) -> Any | None:
    """One half of a key pair. Blocks."""
    return next(iter(_find(session, {Attribute.CLASS: kind, Attribute.ID: key_id.value})), None)


def destroy_halves(session: pkcs11.Session, key_id: KeyId) -> int:
    """Destroys what `find_halves` finds; returns how many that were. Blocks."""
    halves = find_halves(session, key_id)
    for half in halves:
        half.destroy()
    return len(halves)


def _find(session: pkcs11.Session, template: Mapping[Attribute, Any]) -> list[Any]:
    with _Search(session, dict(template), _BATCH) as search:
        return [found for batch in search for found in batch]
