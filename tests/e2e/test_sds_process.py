"""SDS of `meshkey serve`, configured and started as a user does it, for a stock Envoy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sidecar._proto.meshkey.admin.v1 import admin_pb2 as pb
from sidecar.demo.mesh import CLIENT, SERVER
from sidecar.demo.processes import wait_for
from sidecar.demo.sidecars import Served
from sidecar.demo.softhsm import SoftHsmStore
from tests.e2e.forge import Forge
from tests.e2e.lab import Lab, bootstrap
from tests.e2e.load import Load
from tests.e2e.peers import call, client_context
from tests.fixtures.rules import this_user


class Serving(Served):
    """A workload's sidecar with `[sds]`, which trusts what is in `roots`."""

    def __init__(self, lab: Lab, store: SoftHsmStore, directory: Path) -> None:
        self.sds_socket = directory / "sds.sock"
        self.roots = directory / "roots.pem"
        super().__init__(
            "web",
            {
                "token": {"label": "mesh", "pin_file": store.directory / "mesh.pin"},
                "identity": {"spiffe_id": SERVER, "trust_bundle": self.roots},
                "ca": {"socket": lab.mesh.ca.socket},
                "signer": {"socket": directory / "signer.sock", "allow_own_user": True},
                "caller": this_user(),
                "sds": {"socket": self.sds_socket, "root_validator": "spiffe"},
            },
            directory,
            store.environment,
        )

    def subscriber(self) -> pb.SubscriberStatus | None:
        """The one that there is."""
        subscribers = self.status().identities[0].subscribers
        return subscribers[0] if len(subscribers) == 1 else None

    def is_up_to_date(self) -> bool:
        """Whether its one subscriber has what there is."""
        (identity,) = self.status().identities
        acked = [each.acked_generation for each in identity.subscribers]
        return acked == [identity.generation]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def trust(lab: Lab, roots: Path, *forges: Forge) -> None:
    """The local CA's root and these, all at once."""
    new = roots.with_suffix(".new")
    new.write_bytes(lab.roots.read_bytes() + b"".join(forge.root_pem for forge in forges))
    new.rename(roots)


@pytest.mark.parametrize("api", ["GRPC", "DELTA_GRPC"])
def test_a_stock_envoy_follows_the_roots_of_a_sidecar_that_rotates_and_is_killed(
    lab: Lab, stack: ExitStack, api: str
) -> None:
    store, directory = lab.store(), lab.short_path("sp")
    directory.mkdir(mode=0o700)
    new = Forge(directory, "new")
    trust(lab, directory / "roots.pem")
    serving = stack.enter_context(Serving(lab, store, directory))
    own = lab.forge.certify(CLIENT)
    envoy = stack.enter_context(
        lab.envoy(
            bootstrap("sds"),
            {
                "SDS_SOCKET": serving.sds_socket,
                "API": api,
                "ROOTS": "ROOTCA",
                "PEER": CLIENT,
                "CHAIN": own.chain,
                "KEY": own.key,
            },
        )
    )
    port = envoy.port("mtls")
    wait_for(serving.is_up_to_date, "Envoy has the roots")
    subscriber = serving.subscriber()
    assert subscriber
    assert (subscriber.kind, subscriber.resource) == ("sds", "ROOTCA")
    assert (serving.status().sds.streams, serving.status().sds.refused) == (1, 0)
    assert call(port, client_context(new.certify(CLIENT))).status == 0
    with Load(port, client_context(own)) as load:
        load.wait_for_more(20)
        trust(lab, serving.roots, new)
        serving.rotate()
        load.context = client_context(new.certify(CLIENT))
        load.wait_for_more(20)
        serving.kill()
        load.wait_for_more(20)
        again = stack.enter_context(Serving(lab, store, directory))
        again.ready()
        wait_for(again.certified, "a certificate")
        wait_for(again.is_up_to_date, "Envoy is back")
        load.wait_for_more(20)
    assert load.lost == []
