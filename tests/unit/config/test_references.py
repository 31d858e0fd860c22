"""Settings that refer to each other, and sections that are there several times."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sidecar.config.authorities import (
    FileCaSettings,
    IstioCaSettings,
    KubernetesCaSettings,
    LocalCaSettings,
)
from sidecar.config.load import parse
from sidecar.config.settings import Settings
from sidecar.core.certificate_verify import Side
from sidecar.errors import ConfigurationError

IDENTITY = {"spiffe_id": "spiffe://demo.mesh/web", "trust_bundle": "/roots.pem"}
SHOP = {"spiffe_id": "spiffe://demo.mesh/shop", "trust_bundle": "/roots.pem"}
BASE: dict[str, Any] = {
    "token": {"label": "mesh", "pin_file": "/pin"},
    "identity": IDENTITY,
    "ca": {"socket": "/run/ca"},
    "signer": {"socket": "/run/signer"},
}


def _parse(environment: dict[str, str] | None = None, **sections: Any) -> Settings:
    return parse({**BASE, **sections}, environment or {})


def _refused(message: str, **sections: Any) -> None:
    with pytest.raises(ConfigurationError, match=message) as refused:
        _parse(**sections)
    assert "\n" not in str(refused.value)


def test_several_authorities_keep_their_order_and_have_settings_of_their_own() -> None:
    settings = _parse(
        ca=[
            {"kind": "istio", "cluster_id": "east", "headers": {"x-mesh": "1"}},
            {"kind": "istio", "name": "csr", "address": "istio-csr:443", "deadline": "5s"},
            {"kind": "kubernetes", "signer_name": "example.com/mesh"},
            {"kind": "file", "directory": "/var/lib/meshkey/csr"},
            {"socket": "/run/ca"},
        ]
    )
    istio, csr, kubernetes, file, local = settings.authorities
    assert [a.name for a in settings.authorities] == ["istio", "csr", "kubernetes", "file", "local"]
    assert isinstance(istio, IstioCaSettings)
    assert str(istio.address) == "istiod.istio-system.svc:15012"
    assert (istio.cluster_id, istio.headers) == ("east", {"x-mesh": "1"})
    assert isinstance(csr, IstioCaSettings)
    assert csr.deadline == timedelta(seconds=5)
    assert isinstance(kubernetes, KubernetesCaSettings)
    assert isinstance(file, FileCaSettings)
    assert isinstance(local, LocalCaSettings)


@pytest.mark.parametrize(
    ("ca", "message"),
    [
        ({"kind": "vault"}, "ca.kind: one of local, istio, kubernetes, file is needed"),
        ({"kind": "istio", "socket": "/x"}, "unknown setting ca.socket; known: name, address"),
        ({"kind": "kubernetes"}, "ca.signer_name is missing: its signer"),
        ({}, "ca.socket is missing: Unix socket of the local CA"),
        ([{"socket": "/a"}, {"socket": "/b"}], "ca.name: 'local' is there 2 times"),
        ([{"socket": "/a", "name": "a/b"}], "ca.name: a name has letters"),
        ({"kind": "istio", "headers": {"a": 1}}, "ca.headers: a table of texts"),
        (["local"], r"ca is not a section; write \[ca\]"),
    ],
)
def test_a_wrong_authority_is_refused(ca: Any, message: str) -> None:
    _refused(message, ca=ca)


def test_the_environment_overrides_the_only_authority() -> None:
    (authority,) = _parse({"MESHKEY_CA_SOCKET": "/run/other"}).authorities
    assert isinstance(authority, LocalCaSettings)
    assert authority.socket == Path("/run/other")
    environment = {"MESHKEY_CA_KIND": "istio", "MESHKEY_CA_CLUSTER_ID": "west"}
    (made,) = _parse(environment, ca=[]).authorities
    assert isinstance(made, IstioCaSettings)
    assert made.cluster_id == "west"
    with pytest.raises(ConfigurationError, match="which of the several"):
        _parse(environment, ca=[{"socket": "/a"}, {"socket": "/b", "name": "b"}])


def test_gateways_are_identities_with_names_that_serve_only() -> None:
    settings = _parse(gateway={"shop": {**SHOP, "socket": "/run/shop", "ca": ["local"]}})
    assert [*settings.identities] == ["default", "shop"]
    shop = settings.gateways["shop"]
    assert shop.sides == {Side.SERVER}
    assert not shop.tls12
    assert _parse(gateway={"shop": {**SHOP, "tls12": True}}).gateways["shop"].tls12
    assert (shop.socket, shop.ca) == (Path("/run/shop"), ("local",))


@pytest.mark.parametrize(
    ("name", "gateway", "message"),
    [
        ("shop", {**SHOP, "sides": ["client"]}, "unknown setting gateway.shop.sides"),
        ("default", SHOP, r"\[gateway.default\]: that name is taken"),
        ("shop-cacert", SHOP, "that name is taken"),
        ("a/b", SHOP, r"\[gateway.a/b\]: a name has letters"),
        ("shop", "x", r"gateway.shop is not a section"),
        ("shop", {"trust_bundle": "/r"}, "gateway.shop.spiffe_id is missing"),
        ("shop", {**SHOP, "ca": ["istiod"]}, r"gateway.shop.ca: there is no \[\[ca\]\] .*'istiod'"),
        ("shop", {**SHOP, "ca": ["local", "local"]}, "'local' is there 2 times"),
        ("shop", {**SHOP, "ca": []}, "a list of names is needed"),
    ],
)
def test_a_wrong_gateway_is_refused(name: str, gateway: Any, message: str) -> None:
    _refused(message, gateway={name: gateway})


def test_identities_share_no_key() -> None:
    keyed = {**IDENTITY, "key_id": "0a1f"}
    assert _parse(identity=keyed, gateway={"shop": {**SHOP, "key_id": "0a20"}})
    _refused("key_id '0a1f' is there 2 times", identity=keyed, gateway={"shop": {**SHOP, **keyed}})


@pytest.mark.parametrize(
    "sections",
    [
        {"gateway": {"shop": {**SHOP, "socket": "/run/signer"}}},
        {"gateway": {name: {**SHOP, "socket": "/run/x"} for name in ("shop", "till")}},
        {"sds": {"socket": "/run/x"}, "metrics": {"socket": "/run/x"}},
        {"admin": {"socket": "/run/x", "read_only": "/run/x"}},
    ],
)
def test_who_is_served_on_a_socket_is_said_once(sections: dict[str, Any]) -> None:
    _refused("socket /run/(x|signer) is there 2 times", **sections)


def test_a_directory_of_requests_is_for_one_identity() -> None:
    file = {"kind": "file", "directory": "/csr"}
    other = {"kind": "file", "directory": "/csr", "name": "shop"}
    shop = {"shop": {**SHOP, "ca": ["shop"]}}
    assert _parse(ca=[file, other], identity={**IDENTITY, "ca": ["file"]}, gateway=shop)
    _refused("'shop', of kind file, is for one identity, not 2", ca=[file, other], gateway=shop)


def test_roots_come_from_the_identitys_file_or_from_its_domains_trust_section() -> None:
    bare = {"spiffe_id": IDENTITY["spiffe_id"]}
    own = {"trust_domain": "demo.mesh", "file": "/roots.pem"}
    other = {"trust_domain": "other.mesh", "spiffe_bundle": "/bundle.json"}
    assert len(_parse(identity=bare, trust=[own, other]).trust) == 2
    assert len(_parse(trust=other).trust) == 1
    _refused("identity.trust_bundle is missing: PEM file .*'demo.mesh'", identity=bare)
    _refused("identity.trust_bundle is missing", identity=bare, trust=[other])
    _refused("say the same thing", trust=[own])
    _refused("'other.mesh' is there 2 times", trust=[other, other])


@pytest.mark.parametrize("sources", [{}, {"file": "/a", "spiffe_bundle": "/b"}])
def test_a_trust_section_names_exactly_one_source(sources: dict[str, str]) -> None:
    _refused("exactly one of file", trust=[{"trust_domain": "other.mesh", **sources}])


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"renew_at": 1.5}, "identity.renew_at: a number from 0.01 to 0.9"),
        ({"renew_at": True}, "identity.renew_at: a number"),
        ({"renew_at": "half"}, "identity.renew_at: a number"),
        ({"renew_jitter": -0.1}, "identity.renew_jitter: a number"),
        ({"renew_at": 0.1}, "renew_jitter must be less than identity.renew_at"),
        ({"renew_at": 0.9, "renew_jitter": 0.2}, "reach the end"),
        ({"lifetime": "2h", "longest": "1h"}, "identity.longest is shorter than identity.lifetime"),
        ({"lifetime": "30d"}, "identity.root_keep is shorter than identity.lifetime"),
    ],
)
def test_a_schedule_that_cannot_work_is_refused(schedule: dict[str, Any], message: str) -> None:
    _refused(message, identity={**IDENTITY, **schedule})


@pytest.mark.parametrize(
    ("lease", "message"),
    [
        ({"lease": "9s"}, r"identity\.lease is too short: .* make it 10s or more"),
        ({"lease_grace": "1h"}, r"identity\.lease_grace extends a lease: set identity\.lease, too"),
        ({"lease": "1h", "lease_grace": "0s"}, "duration"),
    ],
)
def test_a_lease_that_cannot_be_meant_is_refused(lease: dict[str, Any], message: str) -> None:
    _refused(message, identity={**IDENTITY, **lease})


def test_a_lease_has_no_grace_unless_one_is_given() -> None:
    leased = _parse(identity={**IDENTITY, "lease": "10s"}).identity
    assert leased
    assert (leased.lease, leased.lease_grace) == (timedelta(seconds=10), None)
    gateway = {"shop": {**SHOP, "lease": "1h", "lease_grace": "2h"}}
    shop = _parse(gateway=gateway).gateways["shop"]
    assert (shop.lease, shop.lease_grace) == (timedelta(hours=1), timedelta(hours=2))


def test_metrics_are_for_this_machine() -> None:
    assert _parse(metrics={"address": "127.0.0.1:9464"}).metrics
    assert _parse(metrics={"socket": "/run/metrics"}).metrics
    _refused("a loopback address is needed", metrics={"address": "0.0.0.0:9464"})
    _refused("exactly one of address and socket", metrics={})
    _refused(
        "exactly one of address and socket",
        metrics={"address": "127.0.0.1:1", "socket": "/run/metrics"},
    )


def test_gateways_and_trust_are_not_set_by_the_environment() -> None:
    with pytest.raises(ConfigurationError, match="unknown setting in the environment"):
        _parse({"MESHKEY_GATEWAY_SHOP": "x"})


def test_a_new_root_settles_for_longer_than_a_config_map_takes_to_every_pod() -> None:
    (identity,) = _parse().identities.values()
    assert timedelta(minutes=2) < identity.root_settle
    # And a certificate of the usual lifetime has that time before its last fifth.
    latest = identity.lifetime * (identity.renew_at + identity.renew_jitter)
    assert latest + identity.root_settle <= identity.lifetime * 0.8
