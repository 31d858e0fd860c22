"""The seams: what those who publish and sign ask of the deny list, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sidecar.core.deny_list import DenyList
from sidecar.core.spiffe import SpiffeId


class Denials(Protocol):
    """The deny list that counts now. Use it from the event loop; it never blocks."""

    @property
    def current(self) -> DenyList | None:
        """`None` while there is none."""
        ...

    def denies(self, spiffe_id: SpiffeId) -> bool:
        """Whether the list names it."""
        ...

    def require_signing(self, spiffe_id: SpiffeId) -> None:
        """Refuses to sign for `spiffe_id`, or for anybody.

        Raises:
            SigningRefused: the list names it.
            DenyListUnavailable: the list is stale or missing, and that is not tolerated.
        """
        ...


@dataclass(frozen=True)
class Signed:
    """What lies in the files: nothing in it is checked yet."""

    # The JWS.
    deny_list: bytes
    # Who may sign it, PEM.
    keys: bytes


class DenyListSource(Protocol):
    """Where the deny list and its keys are. Every method blocks."""

    def read(self) -> Signed:
        """Both as they are now.

        Raises:
            DenyListUnavailable: one of them cannot be read.
        """
        ...

    def read_keys(self) -> bytes:
        """The keys alone. Raises `DenyListUnavailable`."""
        ...

    def verified(self, signed: Signed) -> DenyList:
        """The list that one of the keys has signed.

        Raises:
            DenyListRefused: there is no such list in it.
        """
        ...


class NoDenials:
    """Where no deny list is configured."""

    current: DenyList | None = None

    def denies(self, spiffe_id: SpiffeId) -> bool:  # noqa: ARG002  # nobody is denied
        """Nobody."""
        return False

    def require_signing(self, spiffe_id: SpiffeId) -> None:
        """Nothing stands in the way."""


NO_DENIALS = NoDenials()
