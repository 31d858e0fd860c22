"""A sidecar with the configuration and the environment that are generated, in a pod of Istio."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from sidecar.istio.pods.configuration import meshkey_toml
from tests.fixtures.istio_pod import GROUP, PROXY, SPIFFE_ID, IstioPod
from tests.fixtures.istio_pods import environment
from tests.fixtures.istio_values import values
from tests.fixtures.users import IS_ROOT
from tests.fixtures.waiting import eventually

_OF = values(trust_domain="test.mesh")


def moved(value: Any, root: Path) -> Any:
    """The same settings, with every path below the test's own root directory."""
    if isinstance(value, dict):
        return {key: moved(each, root) for key, each in value.items()}
    if isinstance(value, list):
        return [moved(each, root) for each in value]
    return root / value[1:] if isinstance(value, str) and value.startswith("/") else value


@pytest.fixture
def configured(pod: IstioPod) -> IstioPod:
    """With what is generated, but for where the test's own CA and users are."""
    generated = moved(tomllib.loads(meshkey_toml(_OF)), pod.config.parents[2])
    (caller,) = generated.pop("caller")
    pod.settings = {
        **generated,
        # Of this test's CA: where it is, and the files that it is asked with.
        "ca": {**generated["ca"], **pod.settings["ca"]},
        # Where root does not run the tests there is one user.
        "signer": {**generated["signer"], "allow_own_user": not IS_ROOT},
        "caller": {**caller, "uid": PROXY, "gid": GROUP},
    }
    if IS_ROOT:
        assert (caller["uid"], caller["gid"]) == (PROXY, GROUP)
    pod.environment |= environment(_OF, "test", "web")
    return pod


def test_the_sidecar_gets_its_certificate_and_is_ready(configured: IstioPod) -> None:
    pod = configured
    pod.serve().wait_until_ready()
    eventually(lambda: pod.probe() == 0, "the readiness probe")
    assert pod.sds_socket.is_socket()
    assert (pod.signer / "signer.sock").is_socket()
    assert SPIFFE_ID in pod.command("status").stdout


def test_the_doctor_finds_nothing_that_would_not_work(configured: IstioPod) -> None:
    examined = configured.command("doctor", "--json")
    failures = [each for each in json.loads(examined.stdout) if each["verdict"] == "failure"]
    assert failures == []
    assert examined.returncode == 0
