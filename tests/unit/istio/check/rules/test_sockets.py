from __future__ import annotations

import pytest

from tests.fixtures.marked import found, marked
from tests.unit.istio.check.rules.test_containers import GOOD

VARIABLE = "    - {name: WORKLOAD_IDENTITY_SOCKET_FILE, value: meshkey.sock}"
IMAGE = "    image: registry.example/proxyv2-meshkey:1.32.0\n    env:\n"


def with_name(name: str) -> str:
    return GOOD.replace("value: meshkey.sock}", f"value: {name}}}")


def config_map(socket: str, namespace: str = "demo") -> str:
    return f"""\
kind: ConfigMap
metadata: {{name: meshkey, namespace: {namespace}}}
data:
  meshkey.toml: |
    [signer]
    socket = "/run/meshkey/signer.sock"

    [sds]
    {socket}
"""


RIGHT = 'socket = "/var/run/secrets/workload-spiffe-uds/meshkey.sock"'


@pytest.mark.parametrize("name", ["socket", '""'])
def test_the_agents_own_name_is_found(name: str) -> None:
    bad = with_name(f"{name}}} # << default-sds-socket\n    - {{name: OTHER")
    assert found(bad) == marked(bad)


def test_a_proxy_without_a_name_is_found() -> None:
    bad = GOOD.replace(f"    env:\n{VARIABLE}\n", "")
    bad = bad.replace("- name: istio-proxy\n", "- name: istio-proxy # << default-sds-socket\n")
    assert found(bad) == marked(bad)


def test_the_meshs_proxies_may_have_the_name_from_their_metadata() -> None:
    config = """\
kind: IstioOperator
spec:
  meshConfig:
    defaultConfig:
      proxyMetadata:
        WORKLOAD_IDENTITY_SOCKET_FILE: meshkey.sock
"""
    without = GOOD.replace(f"    env:\n{VARIABLE}\n", "")
    assert found(without, config) == set()
    bad = config.replace("meshkey.sock", "socket # << default-sds-socket")
    assert found(bad, without) == marked(bad)


def test_a_path_in_place_of_a_name_is_found() -> None:
    bad = with_name("/run/meshkey.sock}\n      # << sds-socket-path\n    - {name: OTHER")
    [line] = [n for n, each in enumerate(bad.splitlines(), 1) if "/run/meshkey.sock" in each]
    assert found(bad) == {("0", line, "sds-socket-path")}


def test_the_sidecars_own_socket_is_the_one_the_agent_looks_for() -> None:
    assert found(config_map(RIGHT), GOOD) == set()
    bad = config_map(f"{RIGHT.replace('meshkey.sock', 'other.sock')} # << sds-socket-differs")
    assert found(bad, GOOD) == marked(bad)


def test_a_sidecar_without_an_sds_socket_is_found() -> None:
    bad = config_map("").replace("meshkey.toml: |", "meshkey.toml: | # << sds-socket-differs")
    assert found(bad, GOOD) == marked(bad)


def test_a_configuration_that_is_no_toml_is_found() -> None:
    bad = config_map("socket").replace("meshkey.toml: |", "meshkey.toml: | # << sds-socket-differs")
    assert found(bad) == marked(bad)


def test_pods_of_other_namespaces_have_other_configurations() -> None:
    other = config_map(RIGHT.replace("meshkey.sock", "other.sock"), namespace="other")
    assert found(other, GOOD) == set()
