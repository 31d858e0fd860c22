"""What docs/istio.md says that its request and its proxies show, in a mesh that runs."""

from __future__ import annotations

import json
import re

import pytest

from sidecar.demo.mesh import TRUST_DOMAIN
from sidecar.demo.processes import wait_for
from tests.e2e.istio.mesh import SharedMesh
from tests.fixtures.page import page

PAGE = page("istio.md")
_HASH = re.compile(r"(?<=Hash=)[0-9a-f]{64}(?=;)")


def test_the_request_is_answered_with_what_the_page_says(mesh: SharedMesh) -> None:
    step = PAGE.step("curl -s")
    (url,) = re.findall(r"http://\S+", step.commands[0])
    answer = mesh.client.curl(url)
    assert answer.status == 200, answer
    header = json.loads(answer.body)["x-forwarded-client-cert"]
    said = step.output.strip().replace("cluster.local/", f"{TRUST_DOMAIN}/")
    assert _HASH.sub("", header) == _HASH.sub("", said)
    assert _HASH.search(header)
    assert _HASH.search(said)


@pytest.mark.parametrize("name", ["client", "server"])
def test_a_proxy_with_meshkey_has_the_certificates_of_the_page_which_are_none(
    mesh: SharedMesh, name: str
) -> None:
    proxy = getattr(mesh, name).envoy
    (one,) = json.loads(PAGE.step("request GET certs").output)["certificates"]
    assert one == {"ca_cert": [], "cert_chain": []}
    held = json.loads(proxy.admin("/certs"))["certificates"]
    assert held
    assert all(each["cert_chain"] == [] for each in held)
    # Istio's own has.
    others = json.loads(mesh.old.envoy.admin("/certs"))["certificates"]
    assert any(each["cert_chain"] for each in others)


@pytest.mark.parametrize("name", ["client", "server"])
def test_a_configuration_has_as_many_private_keys_as_the_page_says(
    mesh: SharedMesh, name: str
) -> None:
    proxy = getattr(mesh, name).envoy
    step = PAGE.step("request GET config_dump")
    (words,) = re.findall(r"grep -c '(.+)'", step.commands[0])
    # It says so as soon as it has been asked to take one.
    wait_for(
        lambda: proxy.stats("^sds.default.update_rejected$")["sds.default.update_rejected"] > 0,
        "a certificate was refused",
    )
    dump = proxy.admin("/config_dump")
    assert json.loads(dump)["configs"]
    assert dump.count(words) == int(step.output) == 0
    assert mesh.old.envoy.admin("/config_dump").count(words) == 1
    assert "with Istio's own keys this prints 1" in " ".join(PAGE.text.split())


def test_each_reason_that_it_explains_is_in_the_access_log_as_it_says(mesh: SharedMesh) -> None:
    for url, reason in {
        "http://imposed.old.svc.cluster.local:8000/page-imposed": "is_not_in_entry",
        "http://bare.demo.svc.cluster.local:8000/page-bare": "received_corrupt_message",
        "http://unlisted.old.svc.cluster.local:8000/page-unlisted": "Secret_is_not_supplied_by_SDS",
    }.items():
        assert mesh.client.curl(url).status == 503
        assert reason in mesh.client.access(f"/{url.rpartition('/')[2]}")["failure"]
        assert f"`{reason}`" in PAGE.text
