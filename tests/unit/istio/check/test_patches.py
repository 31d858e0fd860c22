from __future__ import annotations

import pytest

from sidecar.istio.check.loader import load
from sidecar.istio.check.located import Node, Place
from sidecar.istio.check.objects import Objects
from sidecar.istio.check.patches import Patch, patches


def patch(value: str) -> Patch:
    text = f"kind: EnvoyFilter\nspec:\n  configPatches:\n  - patch:\n      value:\n{value}"
    documents = [each for each in load(text, Place("file", 1)) if isinstance(each, Node)]
    [only] = patches(Objects(documents))
    return only


def socket(config: str) -> str:
    return f"        transport_socket:\n          name: any\n          typed_config:\n{config}"


PLAIN = """\
            transport_socket_name: meshkey
            transport_socket_config:
              value:
                peers:
                  trust_domain: bank.example
"""
TYPED_STRUCT = """\
            "@type": type.googleapis.com/udpa.type.v1.TypedStruct
            type_url: any
            value:
              transport_socket_name: meshkey
              transport_socket_config: {value: {peers:
                  {trust_domain: bank.example}}}
"""
IN_A_TEXT = """\
            dynamic_module_config: {name: meshkey}
            transport_socket_config:
              value: |
                {"peers":
                 {"trust_domain": "bank.example"}}
"""


@pytest.mark.parametrize(("config", "line"), [(PLAIN, 13), (TYPED_STRUCT, 14), (IN_A_TEXT, 13)])
def test_the_modules_settings_are_read_wherever_they_are(config: str, line: int) -> None:
    found = patch(socket(config)).socket
    assert found
    domain = found.settings.at("peers", "trust_domain")
    assert (domain.text, domain.place.line) == ("bank.example", line)


def test_settings_that_are_no_mapping_are_empty() -> None:
    found = patch(socket(IN_A_TEXT.replace('{"peers":', "["))).socket
    assert found
    assert not found.settings.at("peers").present


def test_another_modules_socket_is_none_of_ours() -> None:
    assert patch(socket(PLAIN.replace("meshkey", "other"))).socket is None


def test_names_of_the_modules_own_settings_are_not_protobufs() -> None:
    found = patch(socket(PLAIN.replace("trust_domain", "trustDomain"))).socket
    assert found
    assert not found.settings.at("peers", "trust_domain").present
    assert found.settings.at("peers", "trustDomain").present
