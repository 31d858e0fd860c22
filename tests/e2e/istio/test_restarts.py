"""What ends and begins anew under traffic: sidecars, and pods with their proxies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection

import pytest

from sidecar.demo.processes import wait_for
from tests.e2e.istio.ours import values
from tests.e2e.istio.plan import Plan
from tests.e2e.istio.scene import Configuration, Scene
from tests.e2e.lab import Lab
from tests.e2e.record import Record

MODES = {"demo": "strict"}
HOST = "server.demo.svc.cluster.local"
_TIMEOUT_S = 30.0


@pytest.fixture
def scene(lab: Lab) -> Iterator[Scene]:
    with ExitStack() as stack:
        plan = stack.enter_context(Plan())
        plan.pod("client", "demo")
        server = plan.pod("server-1", "demo", account="server", labels={"app": "server"})
        plan.service("server", "demo", {"http-web": 8000, "tcp-echo": 9000}, server)
        scene = stack.enter_context(
            Scene(lab, plan, Configuration(values(plan, MODES)), moving=True)
        )
        scene.start(*plan.pods)
        yield scene


def ask(connection: HTTPConnection) -> int:
    connection.request("GET", "/", headers={"host": HOST})
    response = connection.getresponse()
    response.read()
    return response.status


def test_connections_outlive_both_sidecars_and_new_ones_wait_for_the_next(scene: Scene) -> None:
    client, server = scene["client"], scene["server-1"]
    record = Record(server.envoy)
    way = client.way_to((scene.plan.resolve(HOST), 8000))
    echo = (scene.plan.resolve(HOST), 9000)
    with (
        closing(HTTPConnection("127.0.0.1", way, timeout=_TIMEOUT_S)) as asking,
        client.connect(echo) as talking,
    ):
        assert ask(asking) == 200
        talking.sendall(b"before")
        assert talking.recv(1024) == b"before"
        for each in (client, server):
            assert each.sidecar
            each.sidecar.kill()
        assert ask(asking) == 200
        talking.sendall(b"meanwhile")
        assert talking.recv(1024) == b"meanwhile"
        with client.connect(echo) as refused:
            assert refused.recv(1024) == b""
        for name in ("client", "server-1"):
            scene.begin_sidecar(name)
        wait_for(lambda: echoes(scene), "a new connection")
        assert ask(asking) == 200
        talking.sendall(b"afterwards")
        assert talking.recv(1024) == b"afterwards"
    assert record.connections() == {}


def echoes(scene: Scene) -> bool:
    """Whether a new connection gets through."""
    with scene["client"].connect((scene.plan.resolve(HOST), 9000)) as connection:
        try:
            connection.sendall(b"new")
            return connection.recv(1024) == b"new"
        except OSError:
            return False


def test_a_connection_to_a_pod_that_is_replaced_goes_on_until_it_is_done(scene: Scene) -> None:
    plan, configuration = scene.plan, Configuration(values(scene.plan, MODES))
    (old,) = plan.services[0].pods
    new = plan.pod("server-2", "demo", account="server", labels={"app": "server"})
    scene.push(configuration)
    scene.start(new)
    with scene["client"].connect((plan.resolve(HOST), 9000)) as talking:
        talking.sendall(b"before")
        assert talking.recv(1024) == b"before"
        plan.move("server", new)
        scene.push(configuration)
        scene[old.name].envoy.drain()
        talking.sendall(b"to the old one")
        assert talking.recv(1024) == b"to the old one"
        assert echoes(scene)
    scene.end(old)
    assert echoes(scene)
