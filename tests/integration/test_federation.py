"""A sidecar that is federated with another trust domain, by a file in a mounted ConfigMap."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from tests.fixtures import certificates
from tests.fixtures.certificates import Signed
from tests.fixtures.config_maps import ConfigMap
from tests.fixtures.configurations import sections, serve, watching
from tests.fixtures.mesh import TRUST_DOMAIN, Mesh, identity_status, wait_for_generation
from tests.fixtures.spiffe_bundles import document, entry
from tests.fixtures.waiting import soon

_OTHER = "other.mesh"
_FIRST, _SECOND = certificates.root("first"), certificates.root("second")


@pytest.fixture
def config_map(mesh: Mesh) -> ConfigMap:
    made = ConfigMap(mesh.directory / "other", "bundle.json")
    made.swap(_bundle(_FIRST))
    return made


def _bundle(*roots: Signed) -> bytes:
    return document(*map(entry, roots), spiffe_sequence=1)


def _configured(mesh: Mesh, config_map: ConfigMap) -> dict[str, Any]:
    trust = {"trust_domain": _OTHER, "spiffe_bundle": config_map.file}
    return sections(mesh, trust=[trust])


def _roots(update: pb.IdentityUpdate) -> dict[str, list[bytes]]:
    return {bundle.trust_domain: list(bundle.roots) for bundle in update.trust_bundles}


async def test_both_bundles_are_told_and_another_file_is_told_without_a_renewal(
    mesh: Mesh, config_map: ConfigMap
) -> None:
    mesh.start_issuer()
    sidecar = serve(mesh, _configured(mesh, config_map))
    told = wait_for_generation(sidecar, 1)
    assert [(each.trust_domain, each.roots, each.error) for each in told.trust] == [
        (TRUST_DOMAIN, 1, ""),
        (_OTHER, 1, ""),
    ]
    async with watching(mesh.socket("web")) as (watcher, first):
        assert [*_roots(first)] == [TRUST_DOMAIN, _OTHER]
        assert _roots(first)[_OTHER] == [_FIRST.der]
        config_map.swap(_bundle(_SECOND, _FIRST))
        second = await watcher.update()
        assert _roots(second) == {**_roots(first), _OTHER: [_SECOND.der, _FIRST.der]}
        assert second.generation == 2
        assert (second.key_id, second.certificate_chain) == (first.key_id, first.certificate_chain)
        # One that is no bundle takes nothing away, and is told.
        config_map.swap(b"{}")
        await soon(lambda: identity_status(sidecar).trust[1].error, "the complaint")
        told = identity_status(sidecar)
        assert f"trust bundle {config_map.file}: " in told.trust[1].error
        assert (told.generation, told.trust[1].roots, told.last_error) == (2, 2, "")
        # A root that leaves stays for those who still have certificates under it.
        config_map.swap(_bundle(_SECOND))
        await soon(lambda: not identity_status(sidecar).trust[1].error, "it is a bundle again")
        assert identity_status(sidecar).trust[1].roots == 2
    assert len(sidecar.logged("certificate published")) == 1
    assert sidecar.stop() == 0, sidecar.log_text()


async def test_another_domain_that_cannot_be_read_at_first_does_not_hold_up_our_own(
    mesh: Mesh, config_map: ConfigMap
) -> None:
    config_map.swap(b"")
    mesh.start_issuer()
    sidecar = serve(mesh, _configured(mesh, config_map))
    told = wait_for_generation(sidecar, 1)
    assert [(each.trust_domain, each.roots) for each in told.trust] == [
        (TRUST_DOMAIN, 1),
        (_OTHER, 0),
    ]
    assert str(config_map.file) in told.trust[1].error
    async with watching(mesh.socket("web")) as (watcher, first):
        assert [*_roots(first)] == [TRUST_DOMAIN]
        config_map.swap(_bundle(_FIRST))
        assert _roots(await watcher.update())[_OTHER] == [_FIRST.der]
    assert identity_status(sidecar).trust[1].error == ""
