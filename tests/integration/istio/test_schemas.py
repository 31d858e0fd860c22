"""Every document of the overlays is what its API server takes."""

from __future__ import annotations

from typing import Any

import jsonschema
import kubernetes_validate
import pytest

from tests.fixtures import istiod
from tests.fixtures.istio_chart import SHARED, custom_resources, definitions
from tests.integration.istio.overlays import DIRECTORIES, VARIANTS, Found, documents, objects

_ISTIO = ("networking.istio.io/", "security.istio.io/")
_NEWEST = kubernetes_validate.latest_version()
_INSTALL = ("install.istio.io/v1alpha1", "IstioOperator")


def of_istio(found: Found) -> bool:
    return found.kind[0].startswith(_ISTIO)


def of_kubernetes(found: Found) -> bool:
    return not of_istio(found) and found.kind != _INSTALL


def closed(schema: Any) -> Any:
    """The schema, that takes no field which it does not list: an API server would drop it."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(each) for key, each in schema.items()}
    lists_fields = isinstance(schema.get("properties"), dict)
    if lists_fields and not schema.get("x-kubernetes-preserve-unknown-fields"):
        inner.setdefault("additionalProperties", False)
    return inner


@pytest.mark.parametrize("directory", DIRECTORIES)
def test_kubernetes_takes_every_object_of_its_own(directory: str) -> None:
    found = [each for each in objects(directory) if of_kubernetes(each)]
    assert found
    for each in found:
        kubernetes_validate.validate(
            each.document, kubernetes_validate.latest_version(), strict=True
        )


@pytest.mark.parametrize("directory", DIRECTORIES)
@pytest.mark.parametrize("source", ["module", "shared"])
def test_istios_definitions_take_every_object_of_its_own(directory: str, source: str) -> None:
    file = SHARED / "crd-all.gen.yaml" if source == "shared" else definitions()
    if source == "shared" and not file.exists():
        pytest.skip(f"{file} is not here; the module's definitions are tried")
    known = custom_resources(file)
    found = [each for each in objects(directory) if of_istio(each)]
    assert bool(found) == (directory in VARIANTS)
    for each in found:
        schema = known[each.kind]
        # What every object has, and definitions leave to the API server.
        schema = {
            **schema,
            "properties": {**schema["properties"], "apiVersion": {}, "kind": {}, "metadata": {}},
        }
        jsonschema.validate(each.document, closed(schema))


@pytest.mark.parametrize("directory", DIRECTORIES)
def test_istiod_accepts_every_object_of_its_own(directory: str) -> None:
    found = [each for each in objects(directory) if of_istio(each)]
    said = istiod.validated([each.document for each in found])
    assert len(said) == len(found)
    assert [each for each in said if each.error] == []


@pytest.mark.parametrize("directory", DIRECTORIES)
def test_istiod_warns_of_nothing_but_that_envoy_filters_are_what_they_are(directory: str) -> None:
    """Of a field that Envoy does not have, it would only warn."""
    said = istiod.validated([each.document for each in objects(directory) if of_istio(each)])
    for each in said:
        assert bool(each.warning) == (each.kind == "EnvoyFilter")
        assert not each.warning or each.warning.startswith("EnvoyFilter exposes internal")


@pytest.mark.parametrize("directory", DIRECTORIES)
def test_no_document_goes_unjudged(directory: str) -> None:
    judged = {str(each) for each in objects(directory)}
    left = [each for each in documents(directory) if str(each) not in judged]
    # kustomize builds them, and the tests of the installation install them.
    assert {each.kind[1] or each.file.name for each in left} <= {
        "Kustomization",
        "Component",
        "istiod-values.yaml",
        "gateway-values.yaml",
    }


def test_a_misspelt_field_is_noticed() -> None:
    found = next(each for each in objects("softhsm2") if each.kind[1] == "EnvoyFilter")
    known = closed(custom_resources(definitions())[found.kind])
    known["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": {}}
    spec = {**found.document["spec"], "workloadSelecter": {}}
    with pytest.raises(jsonschema.ValidationError, match="workloadSelecter"):
        jsonschema.validate({**found.document, "spec": spec}, known)


def test_a_misspelt_field_of_kubernetes_is_noticed() -> None:
    found = next(each for each in objects("softhsm2") if each.kind[1] == "NetworkPolicy")
    spec = {**found.document["spec"], "egres": []}
    with pytest.raises(kubernetes_validate.ValidationError, match="egres"):
        kubernetes_validate.validate({**found.document, "spec": spec}, _NEWEST, strict=True)
