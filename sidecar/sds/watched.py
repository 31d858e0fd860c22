"""One secret as one stream sees it."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from sidecar.sds.resources import version

# Of a secret that was there, or may come, and is not there now.
ABSENT = ""


class RefusedCertificates(Enum):
    """What it means that a client refuses a certificate. A refusal of roots is always one."""

    # It goes on with the one before: that key is kept, and an error is logged.
    ALARM = "alarm"
    # It signs through the module, which follows the identity itself; what is asked for here is
    # asked for in vain.
    EXPECTED = "expected"


class Watched:
    """The newest content of a secret, what the stream has been sent, what was said of that.

    Only the newest content is kept: a client that does not read costs no more than one that
    does.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.secret = b""
        # `None` while nobody knows whether there is such a secret.
        self.version: str | None = None
        # Its identity was ended on command: it is not there, and nobody is wrong to ask for it.
        self.withdrawn = False
        # Whether it is a certificate of which no client is thought to make use.
        self.refusal_expected = False
        # Of the newest content that the client has been sent, or has said that it has.
        self._sent: str | None = None
        # The newest generation with the content that was sent.
        self._sent_generation = 0
        self._generation = 0
        # The client's last word, and which version it was about.
        self._judged: str | None = None
        self._error = ""
        # Records a word of the client about a generation.
        self.answer: Callable[[int, str], None] = _nobody_waits

    @property
    def is_news(self) -> bool:
        """Whether the client has not been sent what there is now."""
        return self.version is not None and self.version != self._sent

    def update(self, secret: bytes, generation: int) -> None:
        """What there is as of `generation`; empty bytes for nothing."""
        self.withdrawn = False
        self._take(secret, generation)

    def withdraw(self, generation: int) -> None:
        """From `generation` on there is nothing, until the next `update`."""
        self.withdrawn = True
        self._take(b"", generation)

    def _take(self, secret: bytes, generation: int) -> None:
        self.secret = secret
        self.version = version([secret]) if secret else ABSENT
        self._generation = generation
        if self.version != self._sent:
            return
        self._sent_generation = generation
        if self.version == self._judged:
            # Nothing to send: what was said of this content holds for the new generation too.
            self.answer(generation, self._error)

    def mark_sent(self) -> str:
        """What there is now is sent; returns its version."""
        assert self.version is not None
        self._sent = self.version
        self._sent_generation = self._generation
        return self.version

    def judge(self, judged: str, error: str) -> None:
        """The client has taken the version that it was sent, or refused it with `error`.

        A word about an older version is ignored: the one about the newest is still to come.
        """
        if judged != self._sent:
            return
        self._judged, self._error = judged, error
        self.answer(self._sent_generation, error)

    def claim(self, held: str) -> None:
        """The client has this version from an earlier stream, and has taken it there."""
        self._sent = self._judged = held
        self._error = ""
        if self.version == held:
            self._sent_generation = self._generation
            self.answer(self._generation, "")

    def forget_sent(self) -> None:
        """The client may have dropped it: it is news again."""
        self._sent = None


def _nobody_waits(_generation: int, _error: str) -> None:
    """For secrets that belong to no identity."""
