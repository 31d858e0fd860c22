from __future__ import annotations

import json

import pytest

from sidecar.istio.mesh.headers import verified_headers
from sidecar.istio.mesh.identity import request_attributes
from sidecar.istio.mesh.module import Json
from tests.fixtures.marked import found, marked


def envoy_filter(apply_to: str, value: str) -> str:
    return f"""\
kind: EnvoyFilter
metadata: {{name: filter, namespace: demo}}
spec:
  configPatches:
  - applyTo: {apply_to}
    patch:
      operation: INSERT_FIRST
      value:
{value}"""


def set_filter_state(key: str) -> str:
    return f"""\
        name: state
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config
          on_request_headers:
          - {{shared_with_upstream: ONCE}}
          - factory_key: envoy.string
            object_key: {key}
"""


@pytest.mark.parametrize("apply_to", ["HTTP_FILTER", "NETWORK_FILTER"])
@pytest.mark.parametrize(
    "key", ["io.istio.peer_principal", "io.istio.local_principal", "meshkey.peer", "meshkey.xfcc"]
)
def test_a_filter_that_writes_the_peers_identity_is_found(apply_to: str, key: str) -> None:
    bad = envoy_filter(apply_to, set_filter_state(f"{key} # << identity-overwritten"))
    assert found(bad) == marked(bad)
    spelled = bad.replace("object_key", "objectKey").replace("typed_config", "typedConfig")
    assert found(spelled) == marked(spelled)


@pytest.mark.parametrize("type_url", ["type_url", "typeUrl"])
@pytest.mark.parametrize("key", ["object_key", "objectKey"])
def test_a_filter_in_a_typed_struct_is_found_in_either_spelling(type_url: str, key: str) -> None:
    bad = envoy_filter(
        "HTTP_FILTER",
        f"""\
        name: state
        typed_config:
          "@type": type.googleapis.com/xds.type.v3.TypedStruct
          {type_url}: envoy.extensions.filters.http.set_filter_state.v3.Config
          value:
            on_request_headers:
            - {key}: io.istio.peer_principal # << identity-overwritten
""",
    )
    assert found(bad) == marked(bad)


def test_other_filter_state_is_nobodys_business() -> None:
    assert found(envoy_filter("HTTP_FILTER", set_filter_state("io.istio.other"))) == set()


def header_to_metadata(name: str) -> str:
    return f"""\
        name: {name}
        typed_config:
          request_rules:
          - header: x-any
            on_header_present:
              metadata_namespace: envoy.filters.meshkey # << identity-overwritten
"""


@pytest.mark.parametrize("name", ["other", "meshkey_identity"])
def test_a_filter_that_writes_the_attributes_of_policies_is_found(name: str) -> None:
    bad = envoy_filter("HTTP_FILTER", header_to_metadata(name))
    assert found(bad) == marked(bad)


@pytest.mark.parametrize("ours", [request_attributes(), verified_headers()])
def test_the_generators_own_filters_are_right(ours: Json) -> None:
    assert found(envoy_filter("HTTP_FILTER", f"        {json.dumps(ours)}\n")) == set()


def test_a_filter_that_writes_the_header_between_ours_is_found() -> None:
    bad = envoy_filter(
        "HTTP_FILTER",
        """\
        name: other
        typed_config:
          mutations:
          - append:
              header:
                key: X-Meshkey-Peer # << identity-overwritten
""",
    )
    assert found(bad) == marked(bad)
