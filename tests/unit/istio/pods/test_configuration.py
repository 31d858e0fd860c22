"""meshkey.toml: the sidecar takes it, with what the template puts around it."""

from __future__ import annotations

import tomllib
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from sidecar.config.authorities import IstioCaSettings, KubernetesCaSettings
from sidecar.config.load import parse
from sidecar.config.settings import Settings
from sidecar.core.purpose import PURPOSE_NAMES
from sidecar.istio.pods.configuration import configuration, meshkey_toml
from sidecar.istio.values import Values
from tests.fixtures.istio_pods import EVERYTHING, container, environment
from tests.fixtures.istio_values import values


def settings(of: Values) -> Settings:
    return parse(tomllib.loads(meshkey_toml(of)), environment(of, "demo", "server"))


@EVERYTHING
def test_the_sidecar_takes_it(of: Values) -> None:
    taken = settings(of)
    assert str(taken.identities["default"].spiffe_id) == "spiffe://bank.example/ns/demo/sa/server"
    (caller,) = taken.callers
    assert (caller.uid, caller.gid) == (1337, 1337)
    assert caller.purposes == {PURPOSE_NAMES["tls13-server"], PURPOSE_NAMES["tls13-client"]}


@EVERYTHING
def test_every_path_in_it_is_in_a_volume_of_the_sidecar_or_in_its_image(of: Values) -> None:
    mounted = [m["mountPath"] for m in container(of, "meshkey")["volumeMounts"]]
    paths = list(_paths(tomllib.loads(meshkey_toml(of))))
    assert len(paths) >= 6
    for path in paths:
        in_image = path.parts[1:2] == ("usr",)
        assert in_image or any(path.is_relative_to(place) for place in mounted), path


def _paths(value: Any) -> list[PurePosixPath]:
    if isinstance(value, dict):
        return [path for each in value.values() for path in _paths(each)]
    if isinstance(value, list):
        return [path for each in value for path in _paths(each)]
    return [PurePosixPath(value)] if isinstance(value, str) and value.startswith("/") else []


@EVERYTHING
def test_what_is_written_is_in_volumes_that_the_sidecar_may_write(of: Values) -> None:
    taken = settings(of)
    writable = [
        m["mountPath"] for m in container(of, "meshkey")["volumeMounts"] if "readOnly" not in m
    ]
    assert taken.signer
    assert taken.sds
    assert taken.admin
    assert taken.token.state
    for path in (taken.signer.socket, taken.sds.socket, taken.admin.socket, taken.token.state):
        assert any(path.is_relative_to(place) for place in writable), path


def test_the_callers_socket_and_the_commands_socket_are_in_different_directories() -> None:
    taken = settings(values())
    assert taken.signer
    assert taken.sds
    assert taken.admin
    callers = {taken.signer.socket.parent, taken.sds.socket.parent}
    assert taken.admin.socket.parent not in callers


@pytest.mark.parametrize(
    ("changes", "address"),
    [
        ({}, "istiod.istio-system.svc:15012"),
        ({"istio": {"namespace": "mesh", "revision": "canary"}}, "istiod-canary.mesh.svc:15012"),
        ({"ca": {"kind": "istio-csr"}}, "cert-manager-istio-csr.cert-manager.svc:443"),
    ],
)
def test_istios_cas_are_asked_where_they_are(changes: dict[str, Any], address: str) -> None:
    (authority,) = settings(values(**changes)).authorities
    assert isinstance(authority, IstioCaSettings)
    assert str(authority.address) == address
    assert authority.cluster_id == "Kubernetes"


def test_a_signer_of_the_api_has_its_name_and_its_roots() -> None:
    ca = {"kind": "kubernetes", "signer": "a.b/c", "trust_bundle": "a.b:c:roots"}
    taken = settings(values(ca=ca))
    (authority,) = taken.authorities
    assert isinstance(authority, KubernetesCaSettings)
    assert authority.signer_name == "a.b/c"
    assert taken.identities["default"].trust_bundle is None
    assert [each.cluster_trust_bundle for each in taken.trust] == ["a.b:c:roots"]


def test_a_certificate_is_kept_exactly_where_the_token_ends_with_the_pod() -> None:
    kept = settings(values(token="softhsm2")).identities["default"].state
    assert kept == Path("/var/lib/meshkey/identity")
    # With state an orderly stop would leave its key on the node's token.
    for token in ("tpm2", "sgx-ctk"):
        assert settings(values(token=token)).identities["default"].state is None


def test_each_namespace_with_signers_has_one() -> None:
    of = values()
    documents = configuration(of)
    assert [each.path for each in documents] == [
        "namespaces/demo/configuration.yaml",
        "namespaces/istio-ingress/configuration.yaml",
    ]
    for each, namespace in zip(documents, of.signer_namespaces, strict=True):
        (config_map,) = each.objects
        assert config_map["metadata"]["namespace"] == namespace
        assert config_map["metadata"]["name"] == "meshkey"
        assert config_map["data"].keys() == {"meshkey.toml"}
