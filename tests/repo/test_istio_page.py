"""docs/istio.md: what it has one run is run here, as far as a machine without a cluster can."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from sidecar.istio.names import SIGNER_LABEL
from sidecar.istio.pods.install import install
from sidecar.istio.pods.template import templates
from sidecar.istio.values import Values
from sidecar.istio.values_document import parse
from tests.fixtures import istiod
from tests.fixtures.istio_installed import ISTIOD, Injector, by_helm
from tests.fixtures.page import Step, page

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "istio-overlays" / "demo"
PAGE = page("istio.md")
_NEWEST = kubernetes_validate.latest_version()


def the_values() -> Values:
    return parse(yaml.safe_load(PAGE.files["values.yaml"]))


def demo() -> dict[tuple[str, str], dict[str, Any]]:
    """By kind and name."""
    documents = [
        each for file in DEMO.glob("*.yaml") for each in yaml.safe_load_all(file.read_text("utf-8"))
    ]
    return {(each["kind"], each["metadata"]["name"]): each for each in documents}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """With the files that the page has one write."""
    (tmp_path / "istio-overlays").symlink_to(ROOT / "istio-overlays")
    for name, text in PAGE.files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    wrong = PAGE.files["values.yaml"].replace("[demo/server]", "[demo/sever]")
    assert wrong != PAGE.files["values.yaml"]
    assert "`service_accounts: [demo/sever]` in the values (`wrong.yaml`)" in PAGE.text
    (tmp_path / "wrong.yaml").write_text(wrong, encoding="utf-8")
    return tmp_path


def test_every_command_of_meshkeys_prints_what_the_page_says(checkout: Path) -> None:
    steps = list(PAGE.steps("meshkey istio "))
    ran = [step.run("meshkey", checkout) for step in steps]
    assert [output for _, output in ran] == [step.output for step in steps]
    assert [code for code, _ in ran] == [0, 0, 69, 0]
    assert "with the line, and ends with 69:" in PAGE.text


def test_its_policy_without_the_twin_is_an_error_as_it_says(checkout: Path) -> None:
    first, *_ = PAGE.steps("meshkey istio generate")
    (last,) = PAGE.steps("--policy")
    first.run("meshkey", checkout)
    without = Step(tuple(each for each in last.commands if "generate" not in each), "")
    code, output = without.run("meshkey", checkout)
    assert code == 69
    assert "policy-without-twin" in output
    assert "`policy-without-twin`, an error" in PAGE.text


def test_istiod_takes_its_policy() -> None:
    (verdict,) = istiod.validated([yaml.safe_load(PAGE.files["policy.yaml"])])
    assert not verdict.error


@pytest.mark.parametrize("key", demo(), ids="-".join)
def test_kubernetes_knows_every_field_of_the_demo(key: tuple[str, str]) -> None:
    kubernetes_validate.validate(demo()[key], _NEWEST, strict=True)


@cache
def injected(name: str) -> dict[str, Any]:
    """A pod of one of the demo's Deployments, by the control plane that the page installs."""
    (ours,) = next(
        d.objects for d in install(the_values()) if d.path.endswith("istiod-values.yaml")
    )
    template = demo()["Deployment", name]["spec"]["template"]
    metadata = {**template["metadata"], "name": name, "namespace": "demo"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    return Injector.of(by_helm(ISTIOD, ours)).inject(pod)


@pytest.mark.parametrize("name", ["client", "server"])
def test_a_pod_of_the_demo_has_the_containers_and_users_of_the_pages_table(name: str) -> None:
    pod = injected(name)
    kubernetes_validate.validate(pod, _NEWEST, strict=True)
    assert pod["metadata"]["labels"].items() >= SIGNER_LABEL.items()
    spec = pod["spec"]
    users = {
        each["name"]: str(each["securityContext"]["runAsUser"] or "root")
        for each in (*spec["initContainers"], *spec["containers"])
    }
    table = re.findall(r"^\| `([a-z-]+)` \| (\d+|root) \|", PAGE.text, re.MULTILINE)
    assert dict(table) == users
    (before,) = set(re.findall(r"`Init:1/(\d)`", PAGE.text))
    assert int(before) == len(spec["initContainers"])
    # The application and its proxy start together.
    assert [each for each, _ in table][: int(before)] == [*users][: int(before)]


def test_it_looks_into_containers_that_there_are() -> None:
    found = re.findall(r"kubectl exec -n demo deploy/(\w+) -c (\S+) -- (\S+)", PAGE.text)
    assert len(found) == 5
    for deployment, name, program in found:
        spec = injected(deployment)["spec"]
        (container,) = (
            each for each in (*spec["initContainers"], *spec["containers"]) if each["name"] == name
        )
        if name == "meshkey":
            assert container["livenessProbe"]["exec"]["command"][0] == program


def test_the_proxy_has_the_token_that_istiod_takes_as_it_warns() -> None:
    (proxy,) = (
        each for each in injected("client")["spec"]["containers"] if each["name"] == "istio-proxy"
    )
    assert "/var/run/secrets/tokens" in {each["mountPath"] for each in proxy["volumeMounts"]}
    assert "**What this does not prevent, in Istio**" in PAGE.text


def test_the_files_that_it_applies_are_there(checkout: Path) -> None:
    next(PAGE.steps("meshkey istio generate")).run("meshkey", checkout)
    applied = re.findall(
        r"(?:apply -[fk]|install .*-f) ((?:istio-overlays|istio/|istio$)\S*)",
        PAGE.text,
        re.MULTILINE,
    )
    assert len(applied) >= 5
    for each in applied:
        assert (checkout / each).exists(), each
    assert istiod.kustomized(checkout / "istio")


@contextmanager
def _server() -> Iterator[str]:
    """The demo's server, at another port than 8000, of this machine alone."""
    (container,) = demo()["Deployment", "server"]["spec"]["template"]["spec"]["containers"]
    interpreter, *options = container["command"]
    assert interpreter == "python3"
    (script,) = container["args"]
    listens = 'ThreadingHTTPServer(("", 8000), Caller).serve_forever()'
    assert script.strip().endswith(listens)
    elsewhere = (
        'server = ThreadingHTTPServer(("127.0.0.1", 0), Caller)\n'
        "print(server.server_port)\nserver.serve_forever()"
    )
    command = [sys.executable, *options, script.replace(listens, elsewhere)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/"
        finally:
            process.kill()


def test_the_demos_server_answers_with_what_its_proxy_says_about_the_caller() -> None:
    said = PAGE.step("curl -s").output
    with _server() as url:
        request = urllib.request.Request(url, headers={"x-forwarded-client-cert": said.strip()})
        with urllib.request.urlopen(request) as answer:
            assert answer.read().decode() == said
        with urllib.request.urlopen(url) as answer:
            assert answer.read().decode() == "nobody knows who\n"


def _rows(heading: str) -> list[list[str]]:
    """Of the table below a line of the page."""
    table = PAGE.text.partition(heading)[2].strip().split("\n\n")[0]
    return [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]


def _code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_what_refuses_a_pod_says_what_the_page_says() -> None:
    said = "".join(templates(the_values()).values())
    refusals = [
        text
        for row in _rows("Pods that do not come up:\n")
        for text in _code(row[0])
        if text.startswith("meshkey: ")
    ]
    assert len(refusals) == 3
    for text in refusals:
        assert text in said


def test_the_reasons_and_classes_are_the_modules() -> None:
    source = ROOT / "envoy-module" / "src"
    sources = "".join(file.read_text("utf-8") for file in source.rglob("*.rs"))
    # A text of several lines is one with a backslash.
    sources = re.sub(r"\\\n\s*", "", sources)
    classes = (source / "failure.rs").read_text("utf-8")
    rows = _rows("unless it says otherwise:\n")
    own = [row for row in rows if row[1] != "Envoy's own"]
    assert len(own) == len(rows) - 1 == 10
    for reasons, kind, *_ in own:
        assert f'=> "{kind.strip("`")}"' in classes
        for text in _code(reasons):
            # This one is rustls' own.
            assert text == "received_corrupt_message" or text.replace("_", " ") in sources


def test_what_istios_agent_says_is_in_its_source() -> None:
    source = (istiod.source() / "pkg" / "istio-agent" / "agent.go").read_text("utf-8")
    said = [text for row in _rows("Pods that do not come up:\n") for text in _code(row[0])]
    ends = [text for text in said if "SDS socket" in text]
    assert len(ends) == 2
    for text in ends:
        assert text in source


def test_what_the_ca_is_said_to_answer_is_what_the_sidecar_says() -> None:
    source = (ROOT / "sidecar" / "ca" / "istio.py").read_text("utf-8")
    source = re.sub(r'"\s*\n\s*"', "", source)
    said = [text for row in _rows("Pods that do not come up:\n") for text in _code(row[0])]
    reasons = [text for text in said if text.startswith("the ") or text.isupper()]
    assert len(reasons) == 4
    for text in reasons:
        assert text in source


def test_it_says_first_what_was_not_tried() -> None:
    assert PAGE.text.index("**No cluster was at hand.**") < PAGE.text.index("\n## ")
