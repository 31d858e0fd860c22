"""Remembers across restarts that a token refused a PIN.

A process that is started again and again would try a wrong PIN until the token locks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from sidecar import whole_file
from sidecar.core.token_selector import TokenSelector
from sidecar.errors import PinRefused
from sidecar.private_directory import require_private
from sidecar.token.pin_sources import PinSource

# Smart cards lock after three wrong PINs in a row. One is left to whoever looks into it.
_MOST_IN_A_ROW = 2


@dataclass(frozen=True)
class Refusal:
    """What is remembered; nothing in it comes from the PIN itself."""

    time: str
    count: int
    source: str
    fingerprint: Sequence[str]


class Refusals:
    """A small file in `directory`, for one token; there while its last PIN was refused."""

    def __init__(self, file: Path, now: Callable[[], datetime]) -> None:
        self.file = file
        self._now = now

    @classmethod
    def open(
        cls,
        directory: Path,
        module: Path,
        selector: TokenSelector,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> Refusals:
        """Makes `directory` if it is not there.

        Raises:
            ConfigurationError: it cannot be made, is not ours, or is open to others.
        """
        require_private(directory, "token.state")
        token = hashlib.sha256(f"{module}\0{selector!r}".encode()).hexdigest()[:16]
        return cls(directory / f"refused-pin-{token}.json", now)

    def check(self, source: PinSource) -> None:
        """Allows a try with what is in `source` now.

        Raises:
            PinRefused: the token refused that already, or too many in a row.
        """
        refusal = self._read()
        if refusal is None:
            return
        if refusal.count >= _MOST_IN_A_ROW:
            raise PinRefused(
                f"the token refused {refusal.count} PINs in a row, the last one at "
                f"{refusal.time}, and may lock: try the PIN by hand, then remove {self.file}"
            )
        if list(refusal.fingerprint) == fingerprint(source):
            raise PinRefused(
                f"the token refused the PIN from {source.name} at {refusal.time}, and it is "
                f"still the same: put the right one there (or remove {self.file} to try again)"
            )

    def add(self, source: PinSource, seen: Sequence[str]) -> None:
        """Remembers that the PIN was refused that was read when `source` looked like `seen`.

        Raises:
            OSError: it cannot be written.
        """
        before = self._read()
        refusal = Refusal(
            time=self._now().isoformat(timespec="seconds"),
            count=before.count + 1 if before else 1,
            source=source.name,
            fingerprint=seen,
        )
        # Durably, or a machine that crashes after it tries the same PIN again.
        whole_file.replace(self.file, json.dumps(asdict(refusal)).encode("ascii"), 0o600)
        whole_file.sync(self.file.parent)

    def clear(self) -> None:
        """Forgets: the token took a PIN."""
        self.file.unlink(missing_ok=True)

    def _read(self) -> Refusal | None:
        try:
            refusal = Refusal(**json.loads(self.file.read_text(encoding="utf-8")))
            _require_types(refusal)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, RecursionError) as error:
            # Something was refused; what, is not known. So nothing is tried.
            raise PinRefused(
                f"{self.file} cannot be read ({type(error).__name__}); it says that the token "
                "refused a PIN: try the PIN by hand, then remove that file"
            ) from None
        return refusal


def fingerprint(source: PinSource) -> list[str]:
    """Changes when somebody writes to the source's files; not derived from the PIN.

    A source without files has its name.
    """
    return [_of_file(file) for file in source.files] or [source.name]


def _of_file(file: Path) -> str:
    try:
        status = file.stat()
    except OSError:
        return "missing"
    return f"{status.st_dev}:{status.st_ino}:{status.st_mtime_ns}:{status.st_size}"


def _require_types(refusal: Refusal) -> None:
    wanted = {"time": str, "count": int, "source": str, "fingerprint": list}
    for name, kind in wanted.items():
        if not isinstance(getattr(refusal, name), kind):
            raise TypeError(name)
