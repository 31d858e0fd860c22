"""A signer behind the CertificateSigningRequest API: what is asked, and every end of the wait."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from structlog.testing import capture_logs

from sidecar.errors import AuthorityError, AuthorityUnavailable
from tests.fakes.kubernetes_api import Fault
from tests.fixtures.kubernetes import RunningCluster
from tests.fixtures.kubernetes_asking import CSR, SIGNER, Asking
from tests.fixtures.waiting import soon


@pytest.fixture
def asking(running: RunningCluster) -> Asking:
    return Asking(running)


async def test_what_is_asked_is_what_the_api_wants(asking: Asking, running: RunningCluster) -> None:
    answer = asking.sign()
    document = running.cluster.read(await asking.watched())
    assert document
    assert re.fullmatch("meshkey-[0-9a-f]{20}", document["metadata"]["name"])
    request = x509.load_pem_x509_csr(base64.b64decode(document["spec"].pop("request")))
    assert request.public_bytes(Encoding.DER) == CSR
    assert document["spec"] == {
        "signerName": SIGNER,
        "usages": ["digital signature", "client auth", "server auth"],
        "expirationSeconds": 3600,
        "username": "system:serviceaccount:mesh:web",
    }
    running.cluster.approve_and_issue(document["metadata"]["name"])
    await answer


@pytest.mark.parametrize(
    ("lifetime", "asked"),
    [
        (timedelta(seconds=1), 600),
        (timedelta(seconds=600), 600),
        (timedelta(seconds=601.9), 601),
        (timedelta(days=100_000), 2**31 - 1),
    ],
)
async def test_lifetimes_are_kept_within_what_the_api_takes(
    asking: Asking, running: RunningCluster, lifetime: timedelta, asked: int
) -> None:
    answer = asking.sign(lifetime)
    name = await asking.watched()
    document = running.cluster.read(name)
    assert document
    assert document["spec"]["expirationSeconds"] == asked
    running.cluster.deny(name)
    with pytest.raises(AuthorityError):
        await answer


async def test_an_answer_that_is_there_before_the_watch_is_found(
    asking: Asking, running: RunningCluster
) -> None:
    running.cluster.react = running.cluster.approve_and_issue
    assert asking.is_right(await asking.sign())


async def test_approval_alone_is_waited_through(asking: Asking, running: RunningCluster) -> None:
    answer = asking.sign()
    name = await asking.watched()
    running.cluster.touch(name)
    running.cluster.approve(name)
    running.cluster.issue(name)
    assert asking.is_right(await answer)
    assert running.api.calls == ["create", "watch", "delete"]
    assert not asking.pauses


@pytest.mark.parametrize("ending", ["close", "cut", "gone", "garbage", "bookmark"])
async def test_a_watch_that_ends_is_begun_anew(
    asking: Asking, running: RunningCluster, ending: str
) -> None:
    running.api.endings = [ending]
    answer = asking.sign()
    name = await asking.watched(1 if ending == "bookmark" else 2)
    running.cluster.approve_and_issue(name)
    assert asking.is_right(await answer)
    if ending != "bookmark":
        assert running.api.calls == ["create", "watch", "get", "watch", "delete"]


async def test_what_happened_between_two_watches_is_not_missed(
    asking: Asking, running: RunningCluster
) -> None:
    running.api.endings = ["close"]

    async def issue_meanwhile(_pause: float) -> None:
        running.cluster.approve_and_issue(*running.cluster.names)

    asking.authority._sleep = issue_meanwhile
    assert asking.is_right(await asking.sign())
    assert running.api.calls == ["create", "watch", "get", "delete"]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_an_api_server_in_trouble_is_waited_for_once_there_is_a_request(
    asking: Asking, running: RunningCluster, status: int
) -> None:
    running.api.faults["watch"] = [Fault(status, "Trouble", {"Retry-After": "7"})]
    running.api.faults["get"] = [Fault(status, "Trouble", {"Retry-After": "soon"})]
    with capture_logs() as logs:
        answer = asking.sign()
        running.cluster.approve_and_issue(await asking.watched(2))
        assert asking.is_right(await answer)
    assert asking.pauses == [7, 1]
    assert [entry["event"] for entry in logs] == [
        "waiting for a certificate goes on in spite of the API server"
    ]


def _denied(running: RunningCluster, name: str) -> None:
    running.cluster.deny(name)


def _failed(running: RunningCluster, name: str) -> None:
    running.cluster.approve(name)
    running.cluster.condition(name, "Failed", "NotAllowed", "no such usage")


def _garbage(running: RunningCluster, name: str) -> None:
    running.cluster.issue(name, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


def _half(running: RunningCluster, name: str) -> None:
    pem = running.signer.root.pem
    running.cluster.issue(name, pem + pem[: len(pem) // 2])


def _large(running: RunningCluster, name: str) -> None:
    running.cluster.issue(name, running.signer.root.pem + b"\n" * (1 << 20))


def _huge(running: RunningCluster, name: str) -> None:
    running.cluster.issue(name, b"A" * (10 << 20))


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (_denied, r"meshkey-\w+ was denied: WrongNamespace: not in this cluster$"),
        (_failed, rf'signer "{SIGNER}" failed meshkey-\w+: NotAllowed: no such usage$'),
        (_garbage, "its certificate is no PEM chain"),
        (_half, "its certificate is no PEM chain"),
        (_large, "its chain is larger than 1 MiB"),
        (_huge, "the API server's answer is larger than 4 MiB"),
    ],
)
async def test_a_verdict_or_an_unusable_answer_is_a_refusal(
    asking: Asking,
    running: RunningCluster,
    verdict: Callable[[RunningCluster, str], None],
    text: str,
) -> None:
    answer = asking.sign()
    verdict(running, await asking.watched())
    with pytest.raises(AuthorityError, match=text) as refused:
        await answer
    assert not isinstance(refused.value, AuthorityUnavailable)
    assert running.api.calls == ["create", "watch", "delete"]
    assert not running.cluster.names


def _deleted(running: RunningCluster, name: str) -> None:
    running.cluster.delete(name)


def _replaced(running: RunningCluster, name: str) -> None:
    document = running.cluster.read(name)
    assert document
    with running.cluster.changed:
        running.cluster.delete(name)
        running.cluster.changes.clear()
        running.cluster.create(document)


@pytest.mark.parametrize("how", [_deleted, _replaced])
async def test_a_request_that_somebody_deleted_is_a_reason_to_ask_again(
    asking: Asking,
    running: RunningCluster,
    how: Callable[[RunningCluster, str], None],
) -> None:
    answer = asking.sign()
    how(running, await asking.watched())
    with pytest.raises(AuthorityUnavailable, match=r"was deleted before it was signed"):
        await answer
    # Another's object with the same name is none of our business.
    assert len(running.cluster.names) == (how is _replaced)


async def test_a_request_that_was_deleted_while_nobody_watched_is_noticed(
    asking: Asking, running: RunningCluster
) -> None:
    running.api.endings = ["close"]

    async def delete_meanwhile(_pause: float) -> None:
        running.cluster.delete(*running.cluster.names)

    asking.authority._sleep = delete_meanwhile
    with pytest.raises(AuthorityUnavailable, match="was deleted before it was signed"):
        await asking.sign()


async def test_the_deadline_says_who_must_approve(asking: Asking, running: RunningCluster) -> None:
    answer = asking.sign()
    await asking.watched()
    asking.expire()
    text = f'nobody approved meshkey-.* within 300 s: run an approver for the signer "{SIGNER}"'
    with pytest.raises(AuthorityUnavailable, match=text):
        await answer
    await soon(lambda: not running.api.watching, "the watch ends")
    assert not running.cluster.names


async def test_the_deadline_says_who_must_sign(asking: Asking, running: RunningCluster) -> None:
    running.cluster.react = running.cluster.approve
    running.api.endings = ["close"]
    answer = asking.sign()
    await asking.watched(2)
    asking.expire()
    text = f'was approved but not signed within 300 s: is there a signer "{SIGNER}"'
    with pytest.raises(AuthorityUnavailable, match=text):
        await answer


async def test_the_deadline_tells_of_an_api_server_in_trouble(
    asking: Asking, running: RunningCluster
) -> None:
    running.api.faults["watch"] = [Fault(503, "Overloaded")]
    answer = asking.sign()
    await asking.watched(2)
    asking.expire()
    with pytest.raises(AuthorityUnavailable, match=r"the API server: .* 503 Overloaded"):
        await answer


async def test_who_is_cancelled_leaves_nothing_behind(
    asking: Asking, running: RunningCluster
) -> None:
    answer = asking.sign()
    await asking.watched()
    answer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answer
    await soon(lambda: not running.api.watching, "the watch ends")
    assert not running.cluster.names


async def test_who_may_not_delete_gets_his_certificate_and_a_line_in_the_log(
    asking: Asking, running: RunningCluster
) -> None:
    running.cluster.react = running.cluster.approve_and_issue
    running.api.faults["delete"] = [Fault(403, "Forbidden")]
    with capture_logs() as logs:
        assert asking.is_right(await asking.sign())
    (entry,) = logs
    assert entry["event"] == "signing request stays behind"
    assert entry["name"] in running.cluster.names
    assert 'verb "delete"' in entry["reason"]


async def test_a_name_that_is_taken_is_left_alone(running: RunningCluster) -> None:
    names = iter(["meshkey-1", "meshkey-1", "meshkey-2"])
    asking = Asking(running, new_name=lambda: next(names))
    first = asking.sign()
    await asking.watched()
    second = Asking(running, new_name=lambda: next(names)).sign()
    await soon(lambda: running.api.calls.count("watch") == 2)
    assert running.cluster.names == ["meshkey-1", "meshkey-2"]
    for name in running.cluster.names:
        running.cluster.approve_and_issue(name)
    assert asking.is_right(await first)
    assert asking.is_right(await second)


async def test_names_that_are_all_taken_are_a_reason_to_ask_again(
    asking: Asking, running: RunningCluster
) -> None:
    running.api.faults["create"] = [Fault(409, "AlreadyExists")] * 3
    with pytest.raises(AuthorityUnavailable, match="3 names for the request are all taken"):
        await asking.sign()
    assert running.api.calls == ["create"] * 3


async def test_a_verdict_without_words_is_one_all_the_same(
    asking: Asking, running: RunningCluster
) -> None:
    answer = asking.sign()
    running.cluster.condition(await asking.watched(), "Denied", "", "")
    with pytest.raises(AuthorityError, match="was denied: without a reason"):
        await answer
