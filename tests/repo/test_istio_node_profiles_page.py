"""The page about profiles on nodes: its DaemonSet installs what the pods name."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.fixtures.waiting import BOUND_S

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "istio-node-profiles.md").read_text(encoding="utf-8")
PROFILES = ROOT / "sidecar" / "istio" / "profiles"


def _daemon_set() -> Any:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    return yaml.safe_load(text)


def test_its_daemon_set_installs_every_profile_where_the_pods_look_for_it(tmp_path: Path) -> None:
    (install,) = _daemon_set()["spec"]["template"]["spec"]["initContainers"]
    mounted = {mount["name"]: mount["mountPath"] for mount in install["volumeMounts"]}
    host = tmp_path / "host"
    (host / "etc" / "apparmor.d").mkdir(parents=True)
    # On this machine: other directories, no other root, and nothing goes into the kernel.
    (script,) = install["args"]
    parser = "apparmor_parser --skip-kernel-load --skip-cache"
    script = script.replace("chroot /host apparmor_parser", parser)
    script = re.sub(r"(?<= )/etc/", f"{mounted['host']}/etc/", script)
    for name, place in {
        "host": host, "seccomp": PROFILES / "seccomp", "apparmor": PROFILES / "apparmor",
    }.items():  # fmt: skip
        script = re.sub(rf"(?<= ){mounted[name]}/", f"{place}/", script)
    ran = subprocess.run(
        [*install["command"], script],
        env={"PATH": f"{os.environ['PATH']}:/usr/sbin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=BOUND_S,
    )
    assert ran.returncode == 0, ran.stderr
    installed = {str(path.relative_to(host)) for path in host.rglob("*") if path.is_file()}
    assert installed == {
        *(f"var/lib/kubelet/seccomp/meshkey/{path.name}" for path in _files("seccomp")),
        *(f"etc/apparmor.d/{path.name}" for path in _files("apparmor")),
    }


def _files(kind: str) -> list[Path]:
    found = list((PROFILES / kind).iterdir())
    assert found
    return found


def test_it_says_by_which_name_pods_have_each_profile() -> None:
    for path in _files("seccomp"):
        assert f"`meshkey/{path.name}`" in PAGE
    for path in _files("apparmor"):
        assert f"`{path.name}`" in PAGE
        assert f"\nprofile {path.name} " in path.read_text(encoding="utf-8")
