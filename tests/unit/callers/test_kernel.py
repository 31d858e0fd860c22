"""What this kernel can do, which `meshkey doctor` says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sidecar.callers import kernel
from sidecar.callers.kernel import (
    PidIdentity,
    numbers_are_ours,
    pid_identity,
    sees_other_users_programs,
    unknown_user,
)


def test_the_best_way_there_is() -> None:
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    expected = PidIdentity.PEER_PIDFD if release >= (6, 5) else PidIdentity.START_TIME
    assert pid_identity() is expected


def test_the_second_best_way(monkeypatch: pytest.MonkeyPatch) -> None:
    # No such option.
    monkeypatch.setattr(kernel, "SO_PEERPIDFD", 0x7FFF)
    assert pid_identity() is PidIdentity.START_TIME
    monkeypatch.setattr(os, "pidfd_open", _not_there)
    assert pid_identity() is PidIdentity.NONE


def _not_there(_pid: int) -> int:
    raise OSError(38, "Function not implemented")


def test_descriptors_that_were_tried_out_are_closed() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    pid_identity()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_which_user_stands_for_those_that_are_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unknown_user() in (None, 65534)
    texts = {"/proc/self/uid_map": "0 100000 65536\n", "/proc/sys/kernel/overflowuid": "65534\n"}
    monkeypatch.setattr(Path, "read_text", lambda path, _encoding: texts[str(path)])
    assert unknown_user() == 65534
    texts["/proc/self/uid_map"] = "0 0 1000\n1000 1000 4294966295\n"
    assert unknown_user() is None


def test_numbers_in_proc_are_ours() -> None:
    assert numbers_are_ours()


def test_whose_programs_are_seen() -> None:
    # What the kernel says of a process of root's.
    if os.geteuid() == 0:
        assert sees_other_users_programs()
    else:
        assert sees_other_users_programs() is os.access("/proc/1/exe", os.R_OK)
