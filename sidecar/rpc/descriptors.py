"""How many connections this process may have open at all."""

from __future__ import annotations

import resource


def make_room_for_descriptors() -> None:
    """Raises the soft limit, often 1024, to the hard one.

    A connection through an accept proxy has three ends here and two descriptors of its process:
    `MAX_CONNECTIONS` of them would use it up, and the token and all other sockets need some.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
