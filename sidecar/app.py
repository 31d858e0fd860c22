"""The composition root: the only place that names implementations and wires them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import grpc.aio
import structlog

from sidecar._proto.meshkey.admin.v1 import admin_pb2_grpc
from sidecar._proto.meshkey.ca.v1 import ca_pb2_grpc
from sidecar.admin.service import AdminService
from sidecar.ca.local import LocalAuthority
from sidecar.config.settings import IdentitySettings, IssuerSettings, Mode, Settings, TokenSettings
from sidecar.core.key_label import owner_of
from sidecar.errors import ConfigurationError
from sidecar.identity.destruction import Destruction
from sidecar.identity.enrolment import Enrolment
from sidecar.identity.identity import Identity
from sidecar.identity.keyring import Keyring
from sidecar.identity.keys import Destroys, GivenKey, KeySource, MadeKeys, Spared
from sidecar.identity.orphans import Orphans
from sidecar.identity.registry import DEFAULT, IdentityRegistry
from sidecar.identity.store import SnapshotStore
from sidecar.issuer.authority import open_issuer
from sidecar.issuer.service import IssuerService
from sidecar.rpc.sockets import bind, unix_channel, unix_server
from sidecar.signer.service import SignerService
from sidecar.signer.signatures import Signatures
from sidecar.telemetry import SigningCounts
from sidecar.token.base import Assurance, KeyId
from sidecar.token.executor import TokenExecutor
from sidecar.token.login import Login
from sidecar.token.pin_sources import pin_source
from sidecar.token.pkcs11 import Pkcs11Token
from sidecar.token.profiles import PROFILES, profile_of
from sidecar.token.refusals import Refusals

log = structlog.get_logger(__name__)

# How long running calls may take to end after a request to stop.
_GRACE_S = 1.0
# How long the token may take to destroy the keys then.
_DESTRUCTION_S = 3.0


async def serve(settings: Settings) -> None:
    """Runs what the settings name until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: the settings name nothing to run, or two things that must not
            share a process.
        MeshkeyError: the start failed.
    """
    _check_role(settings)
    stopped = asyncio.Event()
    async with AsyncExitStack() as stack:
        parts = _Parts(settings, stack)
        # Not before: a module that hangs while it is opened would keep the signals waiting.
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        if settings.identity:
            running = await parts.sidecar(settings.identity)
        else:
            assert settings.issuer
            running = await parts.issuer(settings.issuer)
        log.info("ready")
        await _first_of(stopped.wait(), *running)
        log.info("stopping")


def open_token(settings: TokenSettings) -> Pkcs11Token:
    """Opens the configured token. Blocks.

    Raises:
        ConfigurationError: a setting is wrong, or the mode does not allow this token.
        TokenUnavailable: there is no such token, or it does not answer.
        LoginRefused: the PIN is wrong or locked.
    """
    source = pin_source(settings, os.environ)
    profile = PROFILES.get(settings.profile) or profile_of(settings.module.name)
    _check_assurance(settings, profile.name, profile.assurance)
    refusals = (
        Refusals.open(settings.state, settings.module, settings.selector)
        if settings.state
        else None
    )
    login = Login(source, refusals, default_pins=settings.mode is Mode.DEVELOPMENT)
    token = Pkcs11Token.open(settings.module, settings.selector, login, profile)
    try:
        _check_assurance(settings, token.label, token.assurance)
    except ConfigurationError:
        token.close()
        raise
    return token


def _check_assurance(settings: TokenSettings, name: str, assurance: Assurance | None) -> None:
    if settings.mode is Mode.PRODUCTION and assurance is Assurance.SOFTWARE:
        raise ConfigurationError(
            f"token.mode production: {name} keeps keys in software, where whoever owns "
            "the machine can copy them; use a token in hardware, or token.mode standard"
        )


def _check_role(settings: Settings) -> None:
    if settings.identity and settings.issuer:
        raise ConfigurationError(
            "[identity] and [issuer] need a process each: a sidecar must not mint identities"
        )
    if not settings.identity and not settings.issuer:
        raise ConfigurationError("nothing to serve: add a section [identity] or [issuer]")
    if settings.identity and not (settings.ca and settings.signer):
        raise ConfigurationError("[identity] needs the sections [ca] and [signer]")


class _Parts:
    """Builds one process's parts; the stack takes them down in reverse order."""

    def __init__(self, settings: Settings, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._stack = stack
        self._token = open_token(settings.token)
        stack.callback(self._token.close)
        log.info("token opened", **self._token.report.summary())
        threads = min(settings.token.threads, self._token.concurrency)
        self._executor = TokenExecutor(threads, settings.token.backlog)
        stack.callback(self._executor.close)

    async def sidecar(self, settings: IdentitySettings) -> Sequence[asyncio.Task[None]]:
        assert self._settings.ca
        assert self._settings.signer
        channel = await self._stack.enter_async_context(unix_channel(self._settings.ca.socket))
        owner = owner_of(
            settings.instance or f"{socket.gethostname()} {self._settings.signer.socket}",
            str(settings.spiffe_id),
        )
        destruction = Destruction(self._token, self._executor)
        keys, destroys = await self._keys(settings, owner, destruction)
        identity = self._identity(settings, channel, keys, destroys)
        self._stack.push_async_callback(_close, identity)
        registry = IdentityRegistry([identity])
        patience = self._settings.token.patience
        signatures = Signatures(registry, self._token, self._executor, patience)
        renewing = asyncio.create_task(identity.run())
        self._stack.callback(renewing.cancel)
        orphans = Orphans(
            owner,
            settings.orphan_grace,
            self._token,
            self._executor,
            destruction,
            identity.keyring.holds,
        )
        sweeping = asyncio.create_task(orphans.sweep())
        self._stack.callback(sweeping.cancel)
        server = unix_server()
        server.add_generic_rpc_handlers((SignerService(registry, signatures).handler(),))
        await self._start(server, self._settings.signer.socket, 0o660)
        await self._start_admin(registry, signatures.counts)
        return [renewing]

    async def issuer(self, settings: IssuerSettings) -> Sequence[asyncio.Task[None]]:
        log.warning(
            "serving the local CA: for evaluation only, it signs for whoever reaches its socket",
            trust_domain=settings.trust_domain,
        )
        issuer = await self._executor.run(
            lambda: open_issuer(
                self._token,
                settings.key_algorithm,
                settings.trust_domain,
                settings.root_file,
                _now(),
            )
        )
        server = unix_server()
        ca_pb2_grpc.add_CertificateAuthorityServicer_to_server(
            IssuerService(issuer, self._executor, settings.longest, _now), server
        )
        await self._start(server, settings.socket, 0o660)
        await self._start_admin(IdentityRegistry([]), SigningCounts())
        return []

    async def _keys(
        self, settings: IdentitySettings, owner: str, destruction: Destruction
    ) -> tuple[KeySource, Destroys]:
        if settings.key_id is None:
            made = MadeKeys(
                settings.key_algorithm,
                owner,
                settings.spiffe_id,
                self._token,
                self._executor,
                destruction,
            )
            return made, destruction
        given = GivenKey(
            KeyId(settings.key_id),
            self._token,
            self._executor,
            allow_imported=settings.allow_imported,
        )
        # A key that is not there or not allowed is an error of the start, not of each renewal.
        await given.obtain(1)
        return given, Spared()

    def _identity(
        self,
        settings: IdentitySettings,
        channel: grpc.aio.Channel,
        keys: KeySource,
        destroys: Destroys,
    ) -> Identity:
        store = SnapshotStore()
        return Identity(
            name=DEFAULT,
            spiffe_id=settings.spiffe_id,
            sides=settings.sides,
            enrolment=Enrolment(
                settings.spiffe_id,
                settings.lifetime,
                settings.trust_bundle,
                keys,
                self._token,
                self._executor,
                LocalAuthority(channel),
            ),
            store=store,
            keyring=Keyring(destroys, store, _now),
            now=_now,
        )

    def _start_metrics(self, registry: IdentityRegistry, counts: SigningCounts) -> None:
        if self._settings.metrics is None:
            return
        from sidecar.admin.metrics import Numbers, serve_metrics

        address = self._settings.metrics.address
        numbers = Numbers(registry, counts, self._token, self._executor)
        self._stack.callback(serve_metrics(address.host, address.port, numbers).shutdown)
        log.info("serving metrics", address=str(address))

    async def _start_admin(self, registry: IdentityRegistry, counts: SigningCounts) -> None:
        self._start_metrics(registry, counts)
        if self._settings.admin is None:
            return
        server = unix_server()
        admin_pb2_grpc.add_AdminServicer_to_server(
            AdminService(registry, counts, self._token, self._executor), server
        )
        await self._start(server, self._settings.admin.socket, 0o600)

    async def _start(self, server: grpc.aio.Server, path: Path, mode: int) -> None:
        bind(server, path, mode)
        await server.start()
        self._stack.push_async_callback(server.stop, _GRACE_S)
        log.info("serving", socket=str(path))


async def _close(identity: Identity) -> None:
    try:
        async with asyncio.timeout(_DESTRUCTION_S):
            await identity.close()
    except TimeoutError:
        # A later start finds them, if it has the same name.
        log.error("stopping with keys left on the token", identity=identity.name)


def _now() -> datetime:
    return datetime.now(UTC)


async def _first_of(*waits: object) -> None:
    """Waits for the first to end, and raises what it raised: a part that dies stops the rest."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]  # type: ignore[call-overload]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
