"""Programs whose hash says nothing of what they do."""

from __future__ import annotations

import pytest

from sidecar.callers.interpreters import is_interpreter


@pytest.mark.parametrize(
    "path",
    [
        *("/usr/bin/python3.11", "/usr/bin/python3", "/opt/pypy3.10", "/usr/bin/perl"),
        *("/usr/bin/ruby3.2", "/usr/bin/node", "/usr/lib/jvm/bin/java", "/usr/bin/php8.2"),
        *("/bin/bash", "/bin/dash", "/bin/sh", "/bin/busybox", "/usr/bin/lua5.4", "/usr/bin/php"),
        *("/lib64/ld-linux-x86-64.so.2", "/lib/ld-musl-x86_64.so.1", "/lib/ld-2.31.so"),
        *("/usr/bin/qemu-aarch64-static", "/usr/bin/gdb", "/usr/bin/gdbserver", "/usr/bin/mawk"),
        "/usr/bin/python3.11 (deleted)",
    ],
)
def test_interpreters_are_known_by_their_names(path: str) -> None:
    assert is_interpreter(path)


@pytest.mark.parametrize(
    "path",
    [
        *("/usr/local/bin/envoy", "/usr/bin/nodejs-like", "/opt/python3/envoy", "/usr/bin/ssh"),
        *("/usr/local/bin/pilot-agent", "/bin/shipper", "/usr/bin/javac-daemon", ""),
    ],
)
def test_others_are_not(path: str) -> None:
    assert not is_interpreter(path)
