"""What a real process serves to Prometheus, and whether the alerts speak of that."""

from __future__ import annotations

import re
import socket
import stat
from pathlib import Path

import pytest

from sidecar._proto.meshkey.signer.v1 import signer_pb2_grpc
from tests.fixtures.alerts import Alert, alerts
from tests.fixtures.mesh import Mesh, identity_status
from tests.fixtures.process import MeshkeyProcess
from tests.fixtures.requests import sign_request
from tests.fixtures.scraping import Scraped, scrape
from tests.fixtures.waiting import eventually

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
# What Prometheus itself adds to each sample.
_ADDED = {"job", "instance"}


@pytest.fixture(scope="module")
def metrics(running_mesh: Mesh) -> Path:
    return running_mesh.directory / "metrics"


@pytest.fixture(scope="module")
def sidecar(running_mesh: Mesh, metrics: Path) -> MeshkeyProcess:
    return running_mesh.start_sidecar("web", metrics={"socket": str(metrics)})


@pytest.fixture(scope="module")
def scraped(sidecar: MeshkeyProcess, metrics: Path) -> Scraped:
    return scrape(metrics)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_the_unix_socket_is_for_the_group_and_gone_at_the_end(mesh: Mesh) -> None:
    path = mesh.directory / "numbers"
    issuer = mesh.start_issuer(metrics={"socket": str(path)})
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    numbers = scrape(path)
    assert numbers.value("meshkey_token_up") == 1
    assert set(numbers.by("meshkey_identities", "state").values()) == {0}
    issuer.kill()
    assert path.exists(), "a killed process leaves it"
    issuer = mesh.start_issuer(metrics={"socket": str(path)})
    assert scrape(path).families.keys() == numbers.families.keys()
    assert issuer.stop() == 0
    assert not path.exists()
    assert "Traceback" not in issuer.log_text()


def test_a_loopback_port_that_is_taken_ends_the_start(mesh: Mesh) -> None:
    port = _free_port()
    mesh.start_issuer(metrics={"address": f"127.0.0.1:{port}"})
    assert scrape(("127.0.0.1", port)).value("meshkey_token_up") == 1
    taken = mesh.sidecar_settings("other", metrics={"address": f"127.0.0.1:{port}"})
    second = mesh.serve("other", taken)
    assert second.wait() == 69
    assert f"metrics.address 127.0.0.1:{port}: Address already in use" in second.log_text()


async def test_the_numbers_are_those_of_the_status(
    running_mesh: Mesh, sidecar: MeshkeyProcess, metrics: Path
) -> None:
    identity = identity_status(sidecar)
    scheme, name = "ecdsa_secp256r1_sha256", "meshkey_signatures_total"
    before = scrape(metrics)
    async with running_mesh.channel("web") as channel:
        stub = signer_pb2_grpc.SignerStub(channel)
        for key_id in (identity.key_id, identity.key_id, b"another"):
            await stub.Sign(sign_request(key_id))
    after = scrape(metrics)
    signed, refused = (
        after.value(name, scheme=scheme, result=result)
        - before.value(name, scheme=scheme, result=result)
        for result in ("signed", "refused")
    )
    assert (signed, refused) == (2, 1)
    timed = "meshkey_signature_seconds_count"
    assert after.value(timed) - before.value(timed) == 2
    assert after.by("meshkey_identities", "state")["valid"] == 1
    assert after.by("meshkey_certificate_not_after_seconds", "identity") == {
        "default": identity.not_after
    }
    assert after.value("meshkey_certificate_expiry_seconds", identity="default") > 0
    assert after.value("meshkey_ca_requests_total", ca="local", result="issued") >= 1
    assert after.by("meshkey_token_assurance", "assurance") == {"software": 1, "hardware": 0}


def test_a_ca_that_is_gone_shows(mesh: Mesh) -> None:
    path = mesh.directory / "numbers"
    issuer = mesh.start_issuer()
    mesh.start_sidecar(metrics={"socket": str(path)})
    issuer.stop()
    rotated = mesh.started[-1].cli("rotate")
    assert rotated.returncode == 69
    numbers = scrape(path)
    assert numbers.value("meshkey_renewals_total", identity="default", result="failed") == 1
    assert numbers.value("meshkey_ca_requests_total", ca="local", result="unavailable") == 1


def test_a_token_that_is_gone_shows(mesh: Mesh) -> None:
    path = mesh.directory / "numbers"
    mesh.start_issuer()
    sidecar = mesh.start_sidecar(metrics={"socket": str(path)})
    tokens = mesh.store("web").tokens
    tokens.rename(tokens.with_name("elsewhere"))
    tokens.mkdir()
    assert sidecar.cli("rotate").returncode == 69
    assert scrape(path).value("meshkey_token_up") == 0
    tokens.rmdir()
    tokens.with_name("elsewhere").rename(tokens)
    eventually(lambda: sidecar.cli("rotate").returncode == 0, "the token is found again")
    assert scrape(path).value("meshkey_token_up") == 1


def test_no_label_tells_who_or_which_key(scraped: Scraped, sidecar: MeshkeyProcess) -> None:
    identity = identity_status(sidecar)
    values = {v for found in scraped.labels.values() for each in found.values() for v in each}
    secrets = [identity.spiffe_id, identity.key_id.hex(), identity.serial, "test.mesh", "web"]
    assert not [value for value in values for secret in secrets if secret in value]


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_an_alert_speaks_of_metrics_and_labels_that_are_served(
    alert: Alert, scraped: Scraped
) -> None:
    served = scraped.labels
    expression = alert.expression
    for selector in expression.selectors:
        assert selector.name in served
        for label, operator, text in selector.matchers:
            known = served[selector.name][label]
            asked = text.split("|") if operator in {"=~", "!~"} else [text]
            assert set(asked) <= known, f"{label} has other values"
    labels = [{*served[selector.name]} | _ADDED for selector in expression.selectors]
    for found in labels:
        assert set(expression.groupings) <= found
    kept = set(expression.groupings) or labels[0]
    for template in alert.templates:
        named = re.fullmatch(r"\$labels\.([a-z]+)", template)
        assert named, f"an unknown template: {template}"
        assert named[1] in kept, f"the result has no label {named[1]}"


def test_the_page_lists_what_is_served(scraped: Scraped) -> None:
    listed = {
        name: {*re.findall(r"`([a-z]+)`", labels)}
        for name, labels in re.findall(
            r"^\| `(meshkey_\w+)` \|([^|]*)\|", PAGE.read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    served: dict[str, set[str]] = {}
    for family in scraped.families.values():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels}
        served[name] = labels - {"le"}
    assert listed == served
