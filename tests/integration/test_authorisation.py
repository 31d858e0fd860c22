"""What a sidecar's rules allow which process: others, over real sockets."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sidecar import whole_file
from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar._proto.third_party import envoy_sds_pb2
from sidecar.core.certificate_verify import Side
from tests.fixtures.bearers import AUDIENCE, SUBJECT, issuer, key_set
from tests.fixtures.configurations import sections, serve
from tests.fixtures.discovery import SERVICE, sotw_request
from tests.fixtures.mesh import Mesh, spiffe_id, status
from tests.fixtures.named_client import NamedClient, random_name
from tests.fixtures.other_processes import ANOTHER_USER
from tests.fixtures.process import MeshkeyProcess
from tests.fixtures.requests import sign_request
from tests.fixtures.rules import this_user
from tests.fixtures.toml import toml
from tests.fixtures.waiting import eventually

SIGNER = "/meshkey.signer.v1.Signer"
NOT_FOUND, DENIED = 5, 7
# No rule is for this one.
STRANGER = ANOTHER_USER - 1
ISSUER = issuer()


@dataclass
class _Edge:
    """A sidecar with a workload's identity and a gateway's; another user may have the latter."""

    process: MeshkeyProcess
    direct: Path
    proxy: Path
    sds: Path

    def key(self, identity: str) -> bytes:
        (found,) = (each for each in status(self.process).identities if each.name == identity)
        return found.key_id

    @property
    def refusals(self) -> list[dict[str, Any]]:
        return _refusals(self.process)


@pytest.fixture(scope="module")
def edge(running_mesh: Mesh) -> _Edge:
    mesh = running_mesh
    another = {
        "name": "another",
        "uid": ANOTHER_USER,
        "identities": ["shop"],
        "purposes": ["tls13-server"],
    }
    configured = sections(
        mesh,
        "edge",
        gateway={"shop": {"spiffe_id": spiffe_id("shop"), "trust_bundle": mesh.root_file}},
        sds={"socket": mesh.socket("sds")},
        caller=[this_user("default", "shop"), another],
    )
    process = serve(mesh, configured, "edge")
    made = _Edge(process, mesh.directory / "edge-direct", mesh.socket("edge"), mesh.socket("sds"))
    # As if every user were in the group of the callers.
    mesh.directory.chmod(0o711)
    for socket in (made.direct, made.proxy, made.sds):
        socket.chmod(0o666)
    eventually(lambda: all(each.generation for each in status(process).identities))
    return made


def _refusals(process: MeshkeyProcess) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in process.log_text().splitlines()]
    return [line for line in lines if line["event"] == "caller refused"]


@contextmanager
def _caller(path: Path, user: int = ANOTHER_USER, *, named: bool = True) -> Iterator[NamedClient]:
    with NamedClient(path, random_name() if named else None, user=user) as client:
        yield client


def _signed(client: NamedClient, key_id: bytes, side: Side = Side.SERVER) -> pb.SignResponse:
    client.begin(f"{SIGNER}/Sign", sign_request(key_id, 7, side).SerializeToString())
    return pb.SignResponse.FromString(client.message())


def _watched(client: NamedClient, identity: str, **metadata: str) -> None:
    request = pb.WatchRequest(identity=identity).SerializeToString()
    client.begin(f"{SIGNER}/WatchIdentity", request, **metadata)


def _discovered(client: NamedClient, name: str) -> None:
    client.begin(f"{SERVICE}/StreamSecrets", sotw_request(name).SerializeToString())


def test_another_user_has_what_its_rule_allows(edge: _Edge) -> None:
    for path, named in ((edge.direct, True), (edge.proxy, False)):
        with _caller(path, named=named) as client:
            assert _signed(client, edge.key("shop")).signature
            refused = _signed(client, edge.key("shop"), Side.CLIENT).refusal
            assert refused.reason == pb.Refusal.REASON_PURPOSE
            _watched(client, "shop")
            assert pb.IdentityUpdate.FromString(client.message()).key_id == edge.key("shop")


def test_what_it_may_not_have_is_as_if_it_were_not_there(edge: _Edge) -> None:
    forbidden = edge.key("default")
    with _caller(edge.direct) as client:
        answers = [_signed(client, key_id) for key_id in (forbidden, bytes(len(forbidden)))]
    assert answers[0] == answers[1]
    assert answers[0].refusal.reason == pb.Refusal.REASON_UNKNOWN_KEY
    ends = []
    for name in ("default", "nothing"):
        with _caller(edge.direct) as client:
            _watched(client, name)
            end = client.end_of_call()
            ends.append({**end, "detail": end["detail"].replace(name, "NAME")})
    assert ends[0] == ends[1]
    assert ends[0]["status"] == NOT_FOUND


def test_over_sds_too(edge: _Edge) -> None:
    with _caller(edge.sds, named=False) as client:
        _discovered(client, "sds://shop")
        answer = envoy_sds_pb2.DiscoveryResponse.FromString(client.message())
        (resource,) = answer.resources
        assert envoy_sds_pb2.Secret.FromString(resource.value).name == "sds://shop"
    ends = []
    for name in ("sds://default", "sds://nothing"):
        with _caller(edge.sds, named=False) as client:
            _discovered(client, name)
            end = client.end_of_call()
            ends.append({**end, "detail": end["detail"].replace(name, "NAME", 1)})
    assert ends[0] == ends[1]
    assert ends[0]["status"] == NOT_FOUND
    assert "identities: 'shop';" in ends[0]["detail"]


def test_a_user_of_whom_no_rule_speaks_gets_nothing_and_the_log_says_why(edge: _Edge) -> None:
    with _caller(edge.direct, STRANGER) as client:
        client.begin(f"{SIGNER}/Sign", sign_request(edge.key("shop")).SerializeToString())
        refused = client.end_of_call()
    assert refused["status"] == DENIED
    assert str(STRANGER) not in refused["detail"]
    last = edge.refusals[-1]
    assert (last["uid"], last["pid"]) == (STRANGER, client.pid)
    assert f"no [[caller]] is for user {STRANGER}" in last["reason"]


def test_nor_is_it_let_through_a_proxy(edge: _Edge) -> None:
    for path in (edge.proxy, edge.sds):
        with _caller(path, STRANGER, named=False) as client:
            _watched(client, "shop")
            assert client.end_of_call() == {"connection": "closed"}
    assert f"no [[caller]] is for user {STRANGER}" in edge.refusals[-1]["reason"]


@dataclass
class _Bearing:
    """A sidecar whose one rule asks for a token."""

    direct: Path
    revoked: Path

    @contextmanager
    def watching(self, lifetime: timedelta, **claims: Any) -> Iterator[NamedClient]:
        """Somebody who follows the identity with a token that is made now."""
        token = ISSUER.token(datetime.now(UTC), lifetime, **claims)
        with NamedClient(self.direct, random_name()) as client:
            _watched(client, "default", authorization=f"Bearer {token}")
            assert client.message()
            yield client


@pytest.fixture
def bearing(mesh: Mesh) -> _Bearing:
    mesh.start_issuer()
    jwks, revoked = mesh.directory / "jwks.json", mesh.directory / "revoked"
    jwks.write_bytes(key_set(ISSUER.entry))
    revoked.write_bytes(b"")
    configured = sections(
        mesh,
        caller=[{**this_user(), "bearer_subject": SUBJECT}],
        bearer={"jwks": jwks, "audience": AUDIENCE, "revoked": revoked},
    )
    process = serve(mesh, configured)
    eventually(lambda: status(process).identities[0].generation)
    return _Bearing(mesh.directory / "web-direct", revoked)


def test_a_stream_ends_with_its_token(bearing: _Bearing) -> None:
    with bearing.watching(timedelta(seconds=3)) as client:
        assert client.end_of_call()["status"] == DENIED


def test_a_stream_ends_when_its_token_is_revoked(bearing: _Bearing) -> None:
    with (
        bearing.watching(timedelta(minutes=5), jti="one") as revoked,
        bearing.watching(timedelta(minutes=5), jti="two") as another,
    ):
        whole_file.replace(bearing.revoked, b"one\n", 0o600)
        assert revoked.end_of_call()["status"] == DENIED
        # Now nobody knows what is on it.
        bearing.revoked.unlink()
        assert another.end_of_call()["status"] == DENIED


def test_without_a_good_token_a_caller_is_not_let_in(bearing: _Bearing) -> None:
    now, minute = datetime.now(UTC), timedelta(minutes=1)
    others = {"aud": "another"}, {"sub": "another"}, {"jti": None}
    tokens = [ISSUER.token(now, minute, **claims) for claims in others]
    for authorization in (None, "Bearer x", f"Basic {tokens[0]}", *(f"Bearer {t}" for t in tokens)):
        with NamedClient(bearing.direct, random_name()) as client:
            _watched(
                client, "default", **({"authorization": authorization} if authorization else {})
            )
            assert client.end_of_call()["status"] == DENIED


def test_other_rules_hold_at_once_and_for_calls_that_go_on(mesh: Mesh) -> None:
    mesh.start_issuer()
    rule, direct = this_user(), mesh.directory / "web-direct"
    process = serve(mesh, sections(mesh, caller=[rule]))
    eventually(lambda: status(process).identities[0].generation)

    def reloaded(*rules: dict[str, Any]) -> int:
        process.config.write_text(toml(sections(mesh, caller=[*rules])), encoding="utf-8")
        return process.cli("reload").returncode

    with NamedClient(direct, random_name()) as client:
        _watched(client, "default")
        assert client.message()
        assert reloaded({**rule, "uid": ANOTHER_USER}) == 0
        assert client.end_of_call()["status"] == DENIED
        assert f"uid (it is {os.getuid()})" in _refusals(process)[-1]["reason"]
    # None at all is a mistake.
    assert reloaded() != 0
    assert reloaded(rule) == 0
    with NamedClient(direct, random_name()) as client:
        _watched(client, "default")
        assert client.message()


def test_a_sidecar_without_rules_does_not_start_and_shows_one(mesh: Mesh) -> None:
    configured = sections(mesh)
    del configured["caller"]
    process = mesh.serve("web", toml(configured))
    assert process.wait() == 64
    text = process.log_text()
    assert text.startswith("meshkey: nobody may use the sockets: say who may, as in\n[[caller]]\n")
    shown = text[text.index("[[caller]]") :]
    # What it shows is what it wants.
    again = mesh.serve("web", toml(configured) + shown)
    again.wait_until_ready()
