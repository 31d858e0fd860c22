"""PKCS#11 URIs (RFC 7512), as far as they choose a token and say how to log in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote_to_bytes

from sidecar.core.token_selector import TokenSelector

_SCHEME = "pkcs11:"
_NAME = re.compile(r"[A-Za-z0-9_-]+")
# RFC 7512 section 2.3: pk11-pchar and pk11-qchar. Everything else is percent-encoded.
_ALWAYS = r"A-Za-z0-9._~:\[\]@!$'()*+,=\-"
_PATH_VALUE = re.compile(rf"(?:[{_ALWAYS}&]|%[0-9A-Fa-f]{{2}})*")
_QUERY_VALUE = re.compile(rf"(?:[{_ALWAYS}/?|]|%[0-9A-Fa-f]{{2}})*")
_SLOT_ID = re.compile(r"[0-9]{1,20}")
# CK_SLOT_ID is a CK_ULONG.
_SLOT_LIMIT = 2**64
_VENDOR = "x-"
# What a token is chosen by, and its name in `TokenSelector`.
_TEXTS = {
    "token": "label",
    "serial": "serial",
    "manufacturer": "manufacturer",
    "model": "model",
}
_KEY = "meshkey names its keys itself; leave it out"
_MODULE = "the module is chosen by module-path; leave it out"
_SLOT = "a slot is chosen by slot-id"
_REFUSED = {
    "object": _KEY,
    "id": _KEY,
    "type": _KEY,
    "library-manufacturer": _MODULE,
    "library-description": _MODULE,
    "library-version": _MODULE,
    "slot-description": _SLOT,
    "slot-manufacturer": _SLOT,
    "module-name": "use module-path",
}
_PATH_NAMES = {*_TEXTS, "slot-id"}
_QUERY_NAMES = {"module-path", "pin-source", "pin-value"}


@dataclass(frozen=True)
class Pkcs11Uri:
    """One parsed URI. Its PIN shows in no repr."""

    selector: TokenSelector
    module_path: Path | None = None
    pin_source: Path | None = None
    pin_value: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str) -> Pkcs11Uri:
        """Parses `text`; attributes whose names begin with `x-` are left out.

        Raises:
            ValueError: what is wrong. No value is shown, for it may be a PIN.
        """
        if text[: len(_SCHEME)].lower() != _SCHEME:
            raise ValueError('a PKCS#11 URI begins with "pkcs11:"')
        path, _, query = text[len(_SCHEME) :].partition("?")
        reader = _Reader(names_show="pin-value" not in text.lower())
        chosen = reader.attributes(path, ";", _PATH_VALUE, _PATH_NAMES)
        login = reader.attributes(query, "&", _QUERY_VALUE, _QUERY_NAMES)
        return cls(
            _selector(chosen),
            module_path=_module_path(login.get("module-path")),
            pin_source=_pin_source(login.get("pin-source")),
            pin_value=_pin_value(login.get("pin-value")),
        )


@dataclass(frozen=True)
class _Reader:
    """Takes a component apart. In a URI with a PIN even a name may be a piece of it."""

    names_show: bool

    def attributes(
        self, component: str, separator: str, value: re.Pattern[str], known: set[str]
    ) -> Mapping[str, str]:
        """The known attributes by name, their values still encoded."""
        found: dict[str, str] = {}
        for name, encoded in self._split(component, separator):
            if not name.startswith(_VENDOR):
                self._require_known(name, known)
            if not value.fullmatch(encoded):
                raise ValueError(
                    f"{self._shown(name)}: percent-encode what RFC 7512 does not allow"
                )
            if name.startswith(_VENDOR):
                continue
            if name in found:
                raise ValueError(f"{name} is there twice")
            found[name] = encoded
        return found

    def _split(self, component: str, separator: str) -> Iterator[tuple[str, str]]:
        for attribute in component.split(separator) if component else ():
            name, equals, encoded = attribute.partition("=")
            if not equals or not _NAME.fullmatch(name):
                raise ValueError(f"each attribute is name=value, with {separator!r} in between")
            yield name, encoded

    def _require_known(self, name: str, known: set[str]) -> None:
        if name in _REFUSED:
            raise ValueError(f"{name} is not for here: {_REFUSED[name]}")
        if name not in known:
            raise ValueError(
                f"{self._shown(name)} is not known here; known: {', '.join(sorted(known))}"
            )

    def _shown(self, name: str) -> str:
        standard = name in _PATH_NAMES | _QUERY_NAMES | _REFUSED.keys()
        return f"attribute {name}" if standard or self.names_show else "an attribute"


def _selector(attributes: Mapping[str, str]) -> TokenSelector:
    texts = {
        field_name: _decoded(name, attributes[name])
        for name, field_name in _TEXTS.items()
        if name in attributes
    }
    return TokenSelector(**texts, slot_id=_slot_id(attributes.get("slot-id")))


def _slot_id(encoded: str | None) -> int | None:
    if encoded is None:
        return None
    if not _SLOT_ID.fullmatch(encoded) or int(encoded) >= _SLOT_LIMIT:
        raise ValueError("slot-id is a decimal number")
    return int(encoded)


def _module_path(encoded: str | None) -> Path | None:
    if encoded is None:
        return None
    return _absolute("module-path", _decoded("module-path", encoded))


def _pin_source(encoded: str | None) -> Path | None:
    if encoded is None:
        return None
    text = _decoded("pin-source", encoded)
    if text.startswith("|"):
        raise ValueError("pin-source: no program is started for a PIN; name a file")
    if text.lower().startswith("file:"):
        # RFC 8089 appendix B: file:/path, file:///path and the local host by its name.
        text = re.sub(r"^//(localhost)?(?=/)", "", text[len("file:") :], flags=re.IGNORECASE)
        if text.startswith("//"):
            raise ValueError("pin-source: the file must be on this machine")
    return _absolute("pin-source", text)


def _pin_value(encoded: str | None) -> str | None:
    if encoded is None:
        return None
    pin = _decoded("pin-value", encoded)
    if not pin or "\0" in pin:
        raise ValueError("pin-value is empty or has a zero byte")
    return pin


def _absolute(name: str, text: str) -> Path:
    path = Path(text)
    if not path.is_absolute() or "\0" in text:
        raise ValueError(f"{name}: an absolute path is needed")
    return path


def _decoded(name: str, encoded: str) -> str:
    try:
        return unquote_to_bytes(encoded).decode()
    except UnicodeDecodeError:
        # Not the error itself: it shows the bytes.
        raise ValueError(f"{name} is not UTF-8") from None
