"""The texts of /proc, from here and from anybody who names programs and cgroups."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.callers.proc import boot_time, cgroup_path, security_label, start_ticks

# What the kernel lets be the name of a program, and of a cgroup.
_NAMES = st.text(st.characters(blacklist_characters="\0"), max_size=15)
_PATHS = st.text(st.characters(blacklist_characters="\0\n", blacklist_categories=["Cs"]))


def _stat(name: str, start: int) -> str:
    fields = ["S", *("1" for _ in range(18)), str(start), *("2" for _ in range(30))]
    return f"123 ({name}) {' '.join(fields)}\n"


@given(_NAMES, st.integers(0, 2**63))
def test_no_name_of_a_program_moves_its_start(name: str, start: int) -> None:
    assert start_ticks(_stat(name, start)) == start


def test_a_program_cannot_forge_a_line_by_its_name() -> None:
    forged = ") S " + " ".join("7" for _ in range(30))
    assert start_ticks(_stat(forged, 42)) == 42


@given(st.text())
def test_any_other_text_is_refused_as_such(text: str) -> None:
    for parse in (start_ticks, boot_time):
        with suppress(ValueError):
            assert isinstance(parse(text), int)


def test_the_texts_of_this_process() -> None:
    # Our own start is between the boot and now.
    ticks = start_ticks(Path("/proc/self/stat").read_text("utf-8"))
    uptime = float(Path("/proc/uptime").read_text("ascii").split()[0])
    assert 0 < ticks <= uptime * os.sysconf("SC_CLK_TCK")
    assert boot_time(Path("/proc/stat").read_text("ascii")) > 0
    assert cgroup_path(Path("/proc/self/cgroup").read_text("utf-8")) is not None


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("0::/kubepods/pod1a/c\n", "/kubepods/pod1a/c"),
        ("0::/\n", "/"),
        ("12:pids:/docker/1\n1:name=systemd:/docker/2\n0::/\n", "/docker/2"),
        ("12:cpu,cpuacct:/a\n11:memory:/b\n", "/b"),
        ("9:freezer:/only\n", None),
        ("0::/with:colons:in it\n", "/with:colons:in it"),
        ("0::/mine\r0::/kubepods/pod-of-another\n", "/mine\r0::/kubepods/pod-of-another"),
        ("0::/gone (deleted)\n", "/gone (deleted)"),
        ("", None),
    ],
)
def test_which_path_is_a_processs_cgroup(text: str, path: str | None) -> None:
    assert cgroup_path(text) == path


@given(_PATHS, _PATHS)
def test_no_cgroup_passes_for_the_unified_one(path: str, other: str) -> None:
    assert cgroup_path(f"5:cpu:/{other}\n0::/u{path}\n") == f"/u{path}"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (b"unconfined\n", "unconfined"),
        (b"cri-containerd.apparmor.d (enforce)\n", "cri-containerd.apparmor.d (enforce)"),
        (b"system_u:system_r:container_t:s0:c1,c2\0", "system_u:system_r:container_t:s0:c1,c2"),
        (b"", None),
        (b"\xff\x1b[1m", "\N{REPLACEMENT CHARACTER}" * 2 + "[1m"),
    ],
)
def test_labels_of_both_kinds(text: bytes, label: str | None) -> None:
    assert security_label(text) == label
