"""Our SDS over identities of the fake CA, in this process, for Envoys that are processes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import grpc.aio

from sidecar.core.trust import TrustBundle
from sidecar.identity.identity import Identity
from sidecar.identity.registry import IdentityRegistry
from sidecar.identity.store import Subscription
from sidecar.rpc.sockets import bind, unix_server
from sidecar.sds.names import RootValidator
from sidecar.sds.service import SdsService
from sidecar.telemetry import SdsCounts
from tests.fakes.callers import Everyone
from tests.fixtures.clock import Clock
from tests.fixtures.enrolment import LIFETIME, World

_T = TypeVar("_T")
_BOUND_S = 60.0
_OFTEN = timedelta(milliseconds=50)


class SecretsServer:
    """Identities "default" and "edge", without a certificate yet, on an event loop of its own.

    `roots` is the file of whom both trust; `start` and `stop` are those of the SDS socket.
    """

    def __init__(
        self, directory: Path, root_validator: RootValidator = RootValidator.TRUSTED_CA
    ) -> None:
        directory.mkdir()
        self.socket = directory / "sds"
        self.root_file = directory / "file-root.pem"
        self._directory = directory
        self._root_validator = root_validator
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: grpc.aio.Server | None = None

    def __enter__(self) -> SecretsServer:
        self._thread.start()
        self._call(self._make())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._call(_cancel_the_others())
        self._world.executor.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def roots(self) -> Path:
        return self._world.trust_bundle

    @property
    def own_root(self) -> bytes:
        """PEM: the fake CA's. Without it among the roots nothing is renewed."""
        return self._world.authority.root.pem

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """Of "default"."""
        return self.identity.store.subscriptions

    def start(self) -> None:
        """Serves on the socket, with counts of its own."""
        self._call(self._start())

    def stop(self) -> None:
        """As a process that ends: calls are cut off."""
        if self._server:
            self._call(self._server.stop(None))
            self._server = None

    def renew(self) -> None:
        """A new key and certificate, and the roots as they are in the file."""
        self._call(self.identity.renew())

    def deprovision(self) -> None:
        """As the command does, but for the saved certificate, which there is none of."""
        self._call(self.identity.deprovision())

    def reinstate(self) -> None:
        self._call(self.identity.reinstate())

    def outlive_certificates(self) -> None:
        """So much time passes that nobody has one under a root that left the file."""
        self._world.clock.advance(LIFETIME + timedelta(seconds=1))

    def begin_renewal(self) -> Future[int]:
        """`renew`, which goes on by itself."""
        return asyncio.run_coroutine_threadsafe(self.identity.renew(), self._loop)

    def federate(self, trust_domain: str, roots: bytes) -> None:
        """ "default" trusts another trust domain too."""
        self._call(self._federate(TrustBundle.parse(trust_domain, roots)))

    def renew_gateway(self) -> None:
        self._call(self.gateway.renew())

    async def _make(self) -> None:
        # Envoy goes by the time of this machine.
        self._world = World(self._directory, Clock(datetime.now(UTC)))
        self.identity: Identity = self._world.identity()
        self.gateway: Identity = self._world.identity(name="edge")
        self.registry = IdentityRegistry([self.identity, self.gateway])

    async def _federate(self, bundle: TrustBundle) -> None:
        store = self.identity.store
        assert store.current
        bundles = (*store.current.bundles, bundle)
        store.publish(replace(store.current, generation=store.generation + 1, bundles=bundles))

    async def _start(self) -> None:
        self.counts = SdsCounts()
        service = SdsService(
            self.registry,
            self.counts,
            frozenset({self.root_file}),
            self._root_validator,
            Everyone(*(identity.name for identity in self.registry)),
            _OFTEN,
        )
        self._server = unix_server()
        self._server.add_generic_rpc_handlers((service.handler(),))
        bind(self._server, self.socket, 0o600)
        await self._server.start()

    def _call(self, coroutine: Coroutine[object, object, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_BOUND_S)


async def _cancel_the_others() -> None:
    """Old keys wait for subscribers that never acknowledge the new ones."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
