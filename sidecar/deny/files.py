"""The deny list and its keys in files, or in a mounted ConfigMap."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sidecar import whole_file
from sidecar.core.deny_list import MOST_BYTES, DenyList
from sidecar.core.public_key import PublicKey
from sidecar.deny.base import Signed
from sidecar.deny.jws import public_keys, verified
from sidecar.errors import ConfigurationError, DenyListRefused, DenyListUnavailable

_MOST_KEY_BYTES = 1 << 16


@dataclass(frozen=True)
class DenyListFiles:
    """`DenyListSource`: replace either file by a rename, as a ConfigMap's mount does."""

    file: Path
    key: Path

    def read(self) -> Signed:
        return Signed(_read("deny_list.file", self.file, MOST_BYTES), self.read_keys())

    def read_keys(self) -> bytes:
        return _read("deny_list.key", self.key, _MOST_KEY_BYTES)

    def verified(self, signed: Signed) -> DenyList:
        return verified(signed.deny_list, self._public_keys(signed.keys))

    def require_keys(self) -> None:
        """At the start a key file that is none is a wrong setting. Blocks.

        Raises:
            ConfigurationError: it cannot be read, or holds no keys.
        """
        try:
            self._public_keys(self.read_keys())
        except (DenyListUnavailable, DenyListRefused) as error:
            raise ConfigurationError(str(error)) from error

    def _public_keys(self, pem: bytes) -> list[PublicKey]:
        try:
            return public_keys(pem)
        except DenyListRefused as error:
            raise DenyListRefused(f"deny_list.key {self.key}: {error}") from error


def _read(setting: str, path: Path, most: int) -> bytes:
    """What is too long keeps one byte too many, and is refused for it."""
    try:
        return whole_file.read(path, most)
    except OSError as error:
        raise DenyListUnavailable(
            f"{setting} {path}: {error.strerror}; put it there, where this user may read it"
        ) from error
