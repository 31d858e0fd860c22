"""The limit on open files."""

from __future__ import annotations

import resource

from sidecar.rpc.descriptors import make_room_for_descriptors


def test_as_many_descriptors_as_there_may_be() -> None:
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(before, 512), hard))
    try:
        make_room_for_descriptors()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))
