"""What is never to come back: identities and keys that were ended on command.

That a file is there is the tombstone, whatever is in it: a damaged one ends all the same. Its
content says what of the dead others may still believe.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import structlog
from cryptography import x509

from sidecar import whole_file
from sidecar.core import checked_text
from sidecar.errors import ConfigurationError
from sidecar.identity.snapshot import KeyGrant
from sidecar.private_directory import require_private
from sidecar.token.base import KeyId

log = structlog.get_logger(__name__)

_FORMAT = 1
_MOST_BYTES = 1 << 16
_IDENTITY = ".deprovisioned"
_KEY = ".revoked"


@dataclass(frozen=True)
class StillValid:
    """A certificate that its CA still vouches for, though its key signs nothing any more."""

    key_id: KeyId
    # In hexadecimal.
    serial: str
    # RFC 4514.
    issuer: str
    not_after: datetime


@dataclass(frozen=True)
class Tombstone:
    """An identity, or one key of it, that was ended."""

    # Of the identity; empty where the file does not say it any more.
    identity: str
    at: datetime | None
    # Those that had not expired.
    certificates: tuple[StillValid, ...] = ()


DAMAGED = Tombstone("", None)


class Tombstones(Protocol):
    """Where they are. Every method blocks."""

    def deprovisioned(self, name: str) -> Tombstone | None:
        """Of the identity; `None`: it lives."""
        ...

    def revoked(self) -> Mapping[KeyId, Tombstone]:
        """Of every key."""
        ...

    def deprovision(self, name: str, tombstone: Tombstone) -> str:
        """Puts one up for the identity, durably; returns where. Raises `OSError`.

        Empty: it does not outlast this process.
        """
        ...

    def revoke(self, key_id: KeyId, tombstone: Tombstone) -> str:
        """The same for a key."""
        ...

    def reinstate(self, name: str) -> None:
        """Takes that of the identity away, durably. Raises `OSError`: then it is still there."""
        ...


class NoTombstones:
    """For identities without a directory for it: the end of the process forgets them."""

    def deprovisioned(self, name: str) -> Tombstone | None:  # noqa: ARG002
        """None."""
        return None

    def revoked(self) -> Mapping[KeyId, Tombstone]:
        """None."""
        return {}

    def deprovision(self, name: str, tombstone: Tombstone) -> str:  # noqa: ARG002
        """Nowhere."""
        return ""

    def revoke(self, key_id: KeyId, tombstone: Tombstone) -> str:  # noqa: ARG002
        """Nowhere."""
        return ""

    def reinstate(self, name: str) -> None:
        """There is none."""


class FileTombstones:
    """A small file for each in a directory of our own."""

    def __init__(self, directory: Path) -> None:
        """Makes `directory` if it is not there.

        Raises:
            ConfigurationError: it cannot be made, is not ours, or is open to others.
        """
        require_private(directory, "certificate store")
        self._directory = directory

    def deprovisioned(self, name: str) -> Tombstone | None:
        """Raises `ConfigurationError` where that cannot be found out."""
        return self._found(self._directory / f"{name}{_IDENTITY}")

    def revoked(self) -> Mapping[KeyId, Tombstone]:
        """Raises `ConfigurationError` where that cannot be found out."""
        found = {}
        for path in self._directory.glob(f"*{_KEY}"):
            try:
                key_id = KeyId(bytes.fromhex(path.name.removesuffix(_KEY)))
            except ValueError:
                continue  # no name that we gave
            found[key_id] = self._found(path) or DAMAGED
        return found

    def deprovision(self, name: str, tombstone: Tombstone) -> str:
        return self._put(self._directory / f"{name}{_IDENTITY}", tombstone)

    def revoke(self, key_id: KeyId, tombstone: Tombstone) -> str:
        return self._put(self._directory / f"{key_id}{_KEY}", tombstone)

    def reinstate(self, name: str) -> None:
        (self._directory / f"{name}{_IDENTITY}").unlink(missing_ok=True)
        whole_file.sync(self._directory)

    def _put(self, path: Path, tombstone: Tombstone) -> str:
        whole_file.replace(path, _encoded(tombstone), 0o600)
        whole_file.sync(self._directory)
        return str(path)

    def _found(self, path: Path) -> Tombstone | None:
        try:
            # Not followed, and not opened: whatever has this name is a tombstone.
            path.lstat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigurationError(f"certificate store {path}: {error.strerror}") from error
        try:
            return _decoded(whole_file.read(path, _MOST_BYTES, follow=False))
        except (OSError, *checked_text.DAMAGED):
            log.error("tombstone damaged, it counts all the same", file=str(path))
            return DAMAGED


def still_valid(grant: KeyGrant, now: datetime) -> list[StillValid]:
    """The certificates of a key that have not expired, newest first."""
    certificates = [x509.load_der_x509_certificate(leaf) for leaf in grant.leaves]
    return [
        StillValid(
            grant.key_id,
            f"{certificate.serial_number:x}",
            certificate.issuer.rfc4514_string(),
            certificate.not_valid_after_utc,
        )
        for certificate in certificates
        if certificate.not_valid_after_utc > now
    ]


def _encoded(tombstone: Tombstone) -> bytes:
    content = {
        "format": _FORMAT,
        "identity": tombstone.identity,
        "at": tombstone.at and tombstone.at.astimezone(UTC).isoformat(),
        "certificates": [
            {
                "key_id": str(each.key_id),
                "serial": each.serial,
                "issuer": each.issuer,
                "not_after": each.not_after.astimezone(UTC).isoformat(),
            }
            for each in tombstone.certificates
        ],
    }
    return json.dumps(content, indent=2).encode("ascii") + b"\n"


def _decoded(raw: bytes) -> Tombstone:
    content: dict[str, Any] = json.loads(raw.decode("ascii"))
    if content["format"] != _FORMAT:
        raise ValueError("of another version")
    return Tombstone(
        str(content["identity"]),
        content["at"] and _moment(content["at"]),
        tuple(
            StillValid(
                KeyId(bytes.fromhex(each["key_id"])),
                str(each["serial"]),
                str(each["issuer"]),
                _moment(each["not_after"]),
            )
            for each in content["certificates"]
        ),
    )


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("it has no time zone")
    return moment
