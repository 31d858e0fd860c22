"""SDS over one identity on a fake token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import grpc.aio
import pytest

from sidecar.core.trust import TrustBundle
from sidecar.identity.identity import Identity
from sidecar.identity.registry import IdentityRegistry
from sidecar.identity.snapshot import Snapshot
from sidecar.rpc.sockets import bind, unix_channel, unix_server
from sidecar.sds.names import RootValidator
from sidecar.sds.root_files import RootFiles
from sidecar.sds.secret_source import SecretSource
from sidecar.sds.service import SdsService
from sidecar.sds.verdicts import Verdicts
from sidecar.sds.watched import RefusedCertificates
from sidecar.telemetry import SdsCounts
from tests.fakes.callers import AdmittedFake, Everyone, everything_of
from tests.fixtures import certificates
from tests.fixtures.discovery import Delta, Sotw
from tests.fixtures.enrolment import World

OFTEN = timedelta(milliseconds=10)


@dataclass
class Sds:
    """The service's parts, over identities without a certificate yet."""

    identity: Identity
    gateway: Identity
    file: Path
    root_validator: RootValidator = RootValidator.TRUSTED_CA
    refused_certificates: RefusedCertificates = RefusedCertificates.ALARM
    now: float = 100.0
    counts: SdsCounts = field(default_factory=SdsCounts)

    def __post_init__(self) -> None:
        self.registry = IdentityRegistry([self.identity, self.gateway])
        files = RootFiles(frozenset({self.file}), OFTEN)
        self.admitted = AdmittedFake(everything_of("default", "edge"))
        self.callers = Everyone("default", "edge")
        self.source = SecretSource(
            self.registry,
            files,
            self.root_validator,
            self.counts,
            self.admitted,
            self.refused_certificates,
        )
        self.verdicts = Verdicts(self.counts, lambda: self.now)

    @property
    def snapshot(self) -> Snapshot:
        current = self.identity.store.current
        assert current
        return current

    def sotw(self) -> Sotw:
        return Sotw(self.source, self.verdicts)

    def delta(self) -> Delta:
        return Delta(self.source, self.verdicts)

    def publish(self, *bundles: TrustBundle) -> int:
        """A generation with the same certificate and these bundles, or the same."""
        generation = self.identity.store.generation + 1
        new = replace(self.snapshot, generation=generation)
        self.identity.store.publish(replace(new, bundles=bundles) if bundles else new)
        return generation

    def service(self) -> SdsService:
        return SdsService(
            self.registry,
            self.counts,
            frozenset({self.file}),
            self.root_validator,
            self.callers,
            OFTEN,
            self.refused_certificates,
        )


def new_bundle(trust_domain: str = "test.mesh") -> TrustBundle:
    """A root that nobody knows yet."""
    return TrustBundle.parse(trust_domain, certificates.root(trust_domain).pem)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    made.executor.close()


@pytest.fixture
async def sds(world: World) -> Sds:
    return Sds(world.identity(), world.identity(name="edge"), world.directory / "file.pem")


@pytest.fixture
async def channel(sds: Sds, short_dir: Path) -> AsyncIterator[grpc.aio.Channel]:
    """To a real server, in this process."""
    server = unix_server()
    server.add_generic_rpc_handlers((sds.service().handler(),))
    bind(server, short_dir / "sds", 0o600)
    await server.start()
    async with unix_channel(short_dir / "sds") as channel:
        yield channel
    await server.stop(None)
