"""From Istio's own keys to meshkey and back: docs/istio-migration.md, under load."""

from __future__ import annotations

import pytest

from tests.e2e.istio.migration import Migration
from tests.e2e.istio.plan import Injected
from tests.e2e.istio.users import Users
from tests.e2e.lab import Lab
from tests.e2e.programs import curl


def replace(mesh: Migration, users: Users, name: str, injected: Injected) -> None:
    """The canary of the page: one new pod beside the old one, and then alone."""
    (old,) = mesh.current(name)
    new = mesh.add(name, injected)
    before = {pod.name: mesh.scene[pod.name].served for pod in (old, new)}
    users.go_on_until(
        lambda: all(mesh.scene[pod.name].served > before[pod.name] for pod in (old, new)),
        f"{old.name} and {new.name} serve",
    )
    mesh.leave_alone(name, new)
    served = mesh.scene[new.name].served
    users.go_on_until(lambda: mesh.scene[new.name].served > served, f"{new.name} serves alone")


@pytest.mark.timeout(180)
def test_a_mesh_goes_to_meshkey_and_back_and_no_request_is_lost(lab: Lab) -> None:
    with Migration(lab) as mesh, Users(mesh.door) as users:
        users.go_on_until(lambda: users.answered > 0, "it works")

        mesh.accept("PERMISSIVE")
        mesh.scene.trust(mesh.both_roots)
        for namespaces, name in ((["stock"], "depot"), (["stock", "shop"], "front")):
            mesh.generate_for(*namespaces)
            replace(mesh, users, name, Injected.MESHKEY)
        mesh.accept("STRICT")
        users.go_on_until(lambda: True, "STRICT with meshkey")
        for name in ("depot", "front"):
            (pod,) = mesh.current(name)
            assert curl(f"http://{pod.address}:8000/").status == 0

        mesh.accept("PERMISSIVE")
        for name in ("depot", "front"):
            replace(mesh, users, name, Injected.ISTIO)
        mesh.generate_for()
        mesh.scene.trust(mesh.istios_root)
        mesh.accept("STRICT")
        users.go_on_until(lambda: True, "STRICT with Istio's own keys")
    assert users.lost == []


def test_a_pod_whose_root_is_not_trusted_yet_loses_requests(lab: Lab) -> None:
    """Why both roots come first, and what the other test would count."""
    with Migration(lab) as mesh:
        mesh.accept("PERMISSIVE")
        mesh.generate_for("stock")
        mesh.scene.trust_at_sidecars(mesh.both_roots)
        with Users(mesh.door) as users:
            mesh.leave_alone("depot", mesh.add("depot", Injected.MESHKEY))
            with pytest.raises(AssertionError, match="503"):
                users.go_on_until(lambda: False, "a lost request")
