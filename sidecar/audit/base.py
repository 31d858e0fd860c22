"""What the signer asks of an audit log."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from sidecar.core.journal import NoJournal
from sidecar.core.process import CallingProcess
from sidecar.errors import AuditUnavailable

# What a request to sign came to; or "refused" and the name of a `RefusalReason`.
SIGNED = "signed"

Done = Callable[[AuditUnavailable | None], None]


class Asked(NamedTuple):
    """A request to sign, as it came."""

    process: CallingProcess
    key_id: bytes
    # ASCII words of ours, or numbers.
    purpose: str
    scheme: str
    message: bytes


class SignatureAudit(Protocol):
    """Keeps a record of each request to sign. Use it from the event loop; it never blocks."""

    def require_room(self) -> None:
        """Before work is begun whose record could not be kept.

        Raises:
            SignerBusy: too many records wait to be written.
            AuditUnavailable: none can be written, and nothing is to be signed without.
        """
        ...

    def request(self, asked: Asked, result: str, done: Done) -> None:
        """Calls `done` when the record is written, or with why nothing may be answered.

        The message is hashed here and not kept. `result` is a word of ours.
        """
        ...


class NoAudit(NoJournal):
    """Where nothing is recorded."""

    def require_room(self) -> None:
        """There always is."""

    def request(self, asked: Asked, result: str, done: Done) -> None:  # noqa: ARG002  # not kept
        """Nobody has to wait."""
        done(None)


NO_AUDIT = NoAudit()
