"""A SoftHSM2 token in a directory of its own, made once, whenever the making was cut off."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sidecar import whole_file
from sidecar.errors import ConfigurationError, StartFailed
from sidecar.token.softhsm2_util import configuration_text, initialise


@dataclass(frozen=True)
class Softhsm2Store:
    """`tokens/` and `<label>.pin` in `directory`, which is there and closed to others.

    The store may be moved as a whole afterwards: where it is, is said by whatever softhsm2.conf
    its user has.
    """

    directory: Path
    label: str

    @property
    def tokens(self) -> Path:
        """SoftHSM2's directories.tokendir."""
        return self.directory / "tokens"

    @property
    def pin_file(self) -> Path:
        return self.directory / f"{self.label}.pin"

    def create(self) -> bool:
        """Makes the token, unless it is there; whether it was made. Blocks.

        The PIN file gets its name last: without it there is no key in the token yet, and what
        an interrupted run has left is made anew.

        Raises:
            ConfigurationError: there is a token without a PIN, or a PIN without a token.
            StartFailed: it cannot be made.
        """
        try:
            if self._is_there():
                return False
            self._make()
        except OSError as error:
            raise StartFailed(
                f"{error.filename or self.directory} cannot be written: {error.strerror}"
            ) from error
        return True

    def _is_there(self) -> bool:
        token, pin = _has_entries(self.tokens), self.pin_file.exists()
        if pin and not token:
            raise ConfigurationError(
                f"{self.pin_file} is there, and no token in {self.tokens}: bring the token back, "
                "or remove the file to have a new token made, with new keys"
            )
        if token and not pin and not self._unfinished.exists():
            raise ConfigurationError(
                f"a token is in {self.tokens}, and {self.pin_file} is not there: put its PIN "
                f"there, or remove {self.tokens} to have a new token made, with new keys"
            )
        return pin

    def _make(self) -> None:
        self._unfinished.unlink(missing_ok=True)
        if self.tokens.exists():
            shutil.rmtree(self.tokens)
        self.tokens.mkdir(mode=0o700)
        with self._configured() as environment:
            initialise(environment, self.label, self._unfinished)
        self._unfinished.rename(self.pin_file)
        whole_file.sync(self.directory)

    @property
    def _unfinished(self) -> Path:
        """The PIN of a token that is being made."""
        return self.directory / f".{self.label}.pin.unfinished"

    @contextmanager
    def _configured(self) -> Iterator[dict[str, str]]:
        """The environment in which SoftHSM2 uses this store, while the context is open."""
        configuration = self.directory / ".softhsm2.conf"
        text = configuration_text(self.tokens).encode()
        whole_file.replace(configuration, text, 0o400)
        try:
            yield {"SOFTHSM2_CONF": str(configuration)}
        finally:
            configuration.unlink()


def _has_entries(directory: Path) -> bool:
    try:
        return any(directory.iterdir())
    except FileNotFoundError:
        return False
