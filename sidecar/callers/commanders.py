"""Who gives commands, for the record of them."""

from __future__ import annotations

from datetime import timedelta

from sidecar.callers.accepted import name_in
from sidecar.callers.executables import Executables
from sidecar.callers.forwarded import Forwarded
from sidecar.callers.measurement import measure
from sidecar.core.process import UNKNOWN, CallingProcess
from sidecar.errors import CallerRefused
from sidecar.one_thread import OneThread

# For a program that has to be read, from a disk that may hang.
_PATIENCE = timedelta(seconds=2)


class Commanders:
    """Those who have connected through a proxy. Use it from the event loop only."""

    def __init__(self, forwarded: Forwarded) -> None:
        self._forwarded = forwarded
        self._executables = Executables()
        self._thread = OneThread(_PATIENCE)

    async def process(self, peer: str) -> CallingProcess:
        """Who makes a call, of which gRPC says `peer`. What cannot be found out is `None`."""
        name = name_in(peer)
        found = self._forwarded.peer(name) if name else None
        if found is None:
            return UNKNOWN
        try:
            measured = await self._thread.run(lambda: measure(found, self._executables))
        except (CallerRefused, OSError):
            # What the kernel noted when it connected is sure all the same.
            known = found.credentials
            return CallingProcess(uid=known.uid, gid=known.gid, pid=known.pid or None)
        return measured.process
