"""From Istio's own keys to meshkey and back: docs/istio-migration.md, while users go on asking."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.istio.migration import Migration
from tests.e2e.istio.plan import Injected
from tests.e2e.istio.users import Users
from tests.e2e.lab import Lab
from tests.e2e.programs import curl

PAGE = Path(__file__).parents[3] / "docs" / "istio-migration.md"
_STEP = re.compile(r"^\s*# step: (.+)$", re.MULTILINE)
_HEADING = re.compile(r"^### (.+)$", re.MULTILINE)


def replace(mesh: Migration, users: Users, name: str, injected: Injected) -> None:
    """The canary of the page: one new pod beside the old one, and then alone."""
    (old,) = mesh.current(name)
    new = mesh.add(name, injected)
    before = {pod.name: mesh.scene[pod.name].served for pod in (old, new)}
    users.go_on_until(
        lambda: all(mesh.scene[pod].served > number for pod, number in before.items()),
        f"{old.name} and {new.name} serve",
    )
    mesh.leave_alone(name, new)
    served = mesh.scene[new.name].served
    users.go_on_until(lambda: mesh.scene[new.name].served > served, f"{new.name} serves alone")


@pytest.mark.timeout(180)
def test_a_mesh_goes_to_meshkey_and_back_and_no_request_is_lost(lab: Lab) -> None:
    with Migration(lab) as mesh, Users(mesh.door) as users:
        # step: Accept both
        mesh.accept("PERMISSIVE")
        # step: Both roots, on both sides
        mesh.scene.trust(mesh.both_roots)
        users.go_on_until(lambda: True, "both roots")
        for namespaces, name in ((["stock"], "depot"), (["stock", "shop"], "front")):
            # step: Generate and apply
            mesh.generate_for("permissive", *namespaces)
            # step: One pod, then all
            replace(mesh, users, name, Injected.MESHKEY)
        # step: STRICT: the filters, then the mode
        mesh.generate_for("strict", "stock", "shop")
        users.go_on_until(lambda: True, "the filters for STRICT")
        mesh.accept("STRICT")
        users.go_on_until(lambda: True, "STRICT")
        refuse_plaintext(mesh)

        # step: PERMISSIVE: the mode, then the filters
        mesh.accept("PERMISSIVE")
        users.go_on_until(lambda: True, "PERMISSIVE")
        mesh.generate_for("permissive", "stock", "shop")
        # step: The pods
        for name in ("depot", "front"):
            replace(mesh, users, name, Injected.ISTIO)
        # step: What was generated, the root, the mode
        mesh.generate_for("permissive")
        mesh.scene.trust(mesh.istios_root)
        mesh.accept("STRICT")
        users.go_on_until(lambda: True, "as it was")
        refuse_plaintext(mesh)
    assert users.lost == []


def refuse_plaintext(mesh: Migration) -> None:
    for name in ("depot", "front"):
        (pod,) = mesh.current(name)
        assert curl(f"http://{pod.address}:8000/").status == 0


def test_a_pod_whose_root_is_not_trusted_yet_loses_requests(lab: Lab) -> None:
    with Migration(lab) as mesh:
        mesh.accept("PERMISSIVE")
        mesh.generate_for("permissive", "stock")
        mesh.scene.trust_at_sidecars(mesh.both_roots)
        with Users(mesh.door) as users:
            mesh.leave_alone("depot", mesh.add("depot", Injected.MESHKEY))
            with pytest.raises(AssertionError, match="503"):
                users.go_on_until(lambda: False, "a lost request")


def test_strict_before_its_filters_loses_requests(lab: Lab) -> None:
    with Migration(lab) as mesh:
        mesh.accept("PERMISSIVE")
        mesh.scene.trust(mesh.both_roots)
        mesh.generate_for("permissive", "stock")
        mesh.leave_alone("depot", mesh.add("depot", Injected.MESHKEY))
        with Users(mesh.door) as users:
            users.go_on_until(lambda: users.answered > 0, "it works")
            mesh.accept("STRICT")
            with pytest.raises(AssertionError, match="503"):
                users.go_on_until(lambda: False, "a lost request")


def test_the_page_has_the_steps_of_the_test_in_their_order() -> None:
    steps = _STEP.findall(Path(__file__).read_text(encoding="utf-8"))
    assert _HEADING.findall(PAGE.read_text(encoding="utf-8")) == steps
