"""Users who go on asking while a mesh changes, and a count of what became of their requests."""

from __future__ import annotations

from collections.abc import Callable
from http.client import HTTPConnection

from sidecar.demo.processes import wait_for
from tests.e2e.asking import Asking
from tests.e2e.istio.relay import Address

_TIMEOUT_S = 30.0


class Users(Asking):
    """Of what answers at `address`, in plain text."""

    def __init__(self, address: Address) -> None:
        super().__init__()
        self._address = address

    def go_on_until(self, condition: Callable[[], bool], what: str) -> None:
        """Until it holds, and more requests are answered after that."""
        wait_for(lambda: condition() or bool(self.lost), what)
        enough = self.answered + 10
        wait_for(lambda: self.answered >= enough or bool(self.lost), f"requests after {what}")
        assert not self.lost, self.lost

    def _connection(self) -> HTTPConnection:
        return HTTPConnection(*self._address, timeout=_TIMEOUT_S)
