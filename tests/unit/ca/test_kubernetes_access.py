"""Credentials, permissions and the way to the API server."""

from __future__ import annotations

import logging
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sidecar.errors import AuthorityError, AuthorityUnavailable, ConfigurationError
from sidecar.kubernetes.connection import KubernetesConnection
from tests.fakes.kubernetes_api import TOKEN, Fault
from tests.fixtures.kubernetes import RunningCluster
from tests.fixtures.kubernetes_asking import Asking


@pytest.fixture
def asking(running: RunningCluster) -> Asking:
    running.cluster.react = running.cluster.approve_and_issue
    return Asking(running)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("verb", ["create", "get", "watch"])
async def test_a_missing_permission_is_named(
    asking: Asking, running: RunningCluster, verb: str, status: int
) -> None:
    if verb == "get":
        running.api.endings = ["close"]
    running.api.faults[verb] = [Fault(status, "Forbidden: system:serviceaccount:mesh:web may not")]
    text = (
        rf'{status} Forbidden: .* may not; .* the verb "{verb}" on '
        r"certificatesigningrequests\.certificates\.k8s\.io$"
    )
    with pytest.raises(AuthorityError, match=text) as refused:
        await asking.sign()
    assert not isinstance(refused.value, AuthorityUnavailable)
    assert not running.cluster.names


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_an_api_server_in_trouble_is_a_reason_to_ask_again(
    asking: Asking, running: RunningCluster, status: int
) -> None:
    running.api.faults["create"] = [Fault(status, body=b"<html>a proxy's page</html>")]
    with pytest.raises(AuthorityUnavailable, match=f"the API server answered {status}$"):
        await asking.sign()


async def test_what_the_api_server_finds_invalid_is_a_refusal(
    asking: Asking, running: RunningCluster
) -> None:
    asking.authority._signer_name = "no-domain"
    text = r"422 Invalid: spec\.signerName: Invalid value$"
    with pytest.raises(AuthorityError, match=text) as refused:
        await asking.sign()
    assert not isinstance(refused.value, AuthorityUnavailable)
    assert running.api.calls == ["create"]


async def test_a_long_message_is_cut_and_fits_in_one_line(
    asking: Asking, running: RunningCluster
) -> None:
    running.api.faults["create"] = [Fault(422, "Invalid: a\nb" + "c" * 1000)]
    with pytest.raises(AuthorityError, match=r"a bc+\.\.\.$") as refused:
        await asking.sign()
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("body", [b"no JSON", b"[]", b"[" * 100_000])
async def test_an_answer_that_is_no_object_is_a_reason_to_ask_again(
    asking: Asking, running: RunningCluster, body: bytes
) -> None:
    running.api.faults["create"] = [Fault(201, body=body)]
    with pytest.raises(AuthorityUnavailable, match="is no JSON object"):
        await asking.sign()


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"metadata": []}',
        b'{"metadata": {"uid": "1", "resourceVersion": "1"}, "status": [1]}',
        b'{"metadata": {"uid": "1", "resourceVersion": "1"}, "status": {"conditions": [1]}}',
        b'{"metadata": {"uid": "1", "resourceVersion": "1"}, "status": {"certificate": "%"}}',
        b'{"metadata": {"uid": "1", "resourceVersion": "1"}, "status": {"certificate": 1}}',
    ],
)
async def test_an_object_that_is_no_request_is_a_refusal(
    asking: Asking, running: RunningCluster, body: bytes
) -> None:
    running.api.faults["create"] = [Fault(201, body=body)]
    with pytest.raises(AuthorityError, match="is no CertificateSigningRequest") as refused:
        await asking.sign()
    assert not isinstance(refused.value, AuthorityUnavailable)


async def test_an_api_server_that_is_gone_is_a_reason_to_ask_again(
    asking: Asking, running: RunningCluster
) -> None:
    running.api.stop()
    with pytest.raises(AuthorityUnavailable, match=r"create certificates.*: ClientConn"):
        await asking.sign()


async def test_an_api_server_under_another_root_gets_no_token(
    asking: Asking, running: RunningCluster
) -> None:
    running.distrust()
    with pytest.raises(AuthorityUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        await asking.sign()
    assert not running.api.calls


async def test_a_new_token_is_used_from_the_next_call_on(
    asking: Asking, running: RunningCluster
) -> None:
    running.token_file.write_text("an-older-one", encoding="ascii")
    with pytest.raises(AuthorityError, match="401"):
        await asking.sign()
    running.token_file.write_text(f"{TOKEN}\n", encoding="ascii")
    assert asking.is_right(await asking.sign())


async def test_a_token_that_is_replaced_while_we_wait_is_used(running: RunningCluster) -> None:
    asking = Asking(running)
    answer = asking.sign()
    name = await asking.watched()
    running.api.token = "a-newer-one"
    running.token_file.write_text("a-newer-one", encoding="ascii")
    running.cluster.approve_and_issue(name)
    await answer
    assert not running.cluster.names  # the deletion came with the new token


async def test_a_kubeconfig_will_do(asking: Asking, running: RunningCluster) -> None:
    from_file = Asking(running, KubernetesConnection(running.kubeconfig()))
    assert asking.is_right(await from_file.sign())


@pytest.mark.parametrize(
    ("secure", "insecure", "reason"),
    [
        ('"server": "https:', '"server": "http:', "not reached over https"),
        ('"certificate-authority": ', '"insecure-skip-tls-verify": true, "x": ', "insecure-skip"),
    ],
)
async def test_a_kubeconfig_without_verified_tls_is_refused(
    running: RunningCluster, secure: str, insecure: str, reason: str
) -> None:
    file = running.kubeconfig()
    content = file.read_text(encoding="utf-8")
    file.write_text(content.replace(secure, insecure), encoding="utf-8")
    connection = KubernetesConnection(file)
    with pytest.raises(ConfigurationError, match=reason):
        await connection.check()
    with pytest.raises(AuthorityUnavailable, match=reason):
        await Asking(running, connection).sign()
    assert not running.api.calls


async def test_proxies_and_passwords_of_the_environment_are_not_used(
    asking: Asking, running: RunningCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    (tmp_path / "netrc").write_text("default login other password one", encoding="ascii")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert asking.is_right(await asking.sign())


@pytest.mark.parametrize("content", ["", "half\nof", f"{TOKEN}\r\nX-Evil: yes", "\xe9"])
async def test_a_token_that_is_none_is_a_reason_to_ask_again_and_told_to_nobody(
    asking: Asking, running: RunningCluster, content: str
) -> None:
    running.token_file.write_text(content, encoding="latin-1")
    with pytest.raises(AuthorityUnavailable) as unavailable:
        await asking.sign()
    assert not running.api.calls
    told = "".join(traceback.format_exception(unavailable.value))
    assert "secret" not in told
    assert "half" not in told


@pytest.mark.parametrize("verb", ["create", "watch", "delete"])
@pytest.mark.parametrize("status", [401, 500])
async def test_the_token_is_in_no_log_and_no_error(
    asking: Asking,
    running: RunningCluster,
    caplog: pytest.LogCaptureFixture,
    verb: str,
    status: int,
) -> None:
    running.api.faults[verb] = [Fault(status, "Trouble")]
    told = ""
    with caplog.at_level(logging.DEBUG), capture_logs() as logs:
        try:
            await asking.sign()
        except AuthorityError as error:
            told = "".join(traceback.format_exception(error))
    assert "secret" not in told + str(logs) + caplog.text
    assert TOKEN in running.token_file.read_text(encoding="ascii")


async def test_outside_of_a_pod_there_is_a_way_out(tmp_path: Path) -> None:
    connection = KubernetesConnection(service_account=tmp_path, environment={})
    with pytest.raises(ConfigurationError, match=r"not set\. .*outside of a pod, give a kube"):
        await connection.check()


@pytest.mark.parametrize("content", [None, "", "a: [", "clusters: 1", "current-context: missing"])
async def test_a_kubeconfig_that_is_none_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "kubeconfig"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=f"the kubeconfig {file} cannot be used: "):
        await KubernetesConnection(file).check()


async def test_credentials_that_are_there_are_all_that_is_checked(
    running: RunningCluster,
) -> None:
    await running.connection().check()
    assert not running.api.calls


@pytest.mark.parametrize("module", ["sidecar.ca.kubernetes", "sidecar.trust.cluster_trust_bundle"])
def test_a_client_that_is_not_installed_is_told_with_the_way_to_it(module: str) -> None:
    code = f"""
import sys
sys.modules["kubernetes"] = None
from sidecar.errors import ConfigurationError
try:
    import {module}
except ConfigurationError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == (
        "the Kubernetes client is not installed: install meshkey with "
        "`make runtime EXTRA=kubernetes`\n"
    )
