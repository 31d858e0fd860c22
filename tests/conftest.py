"""Fixtures of all tests, and what happens when one fails."""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from sidecar.core.token_selector import TokenSelector
from sidecar.demo.softhsm import SoftHsmStore
from sidecar.token.login import Login
from sidecar.token.pin_sources import PinFile
from sidecar.token.pkcs11 import Pkcs11Token
from sidecar.token.profiles import P11_KIT, SOFTHSM2, TPM2, TokenProfile
from tests.fixtures import process
from tests.fixtures.limits import time_limit
from tests.fixtures.mesh import Mesh
from tests.fixtures.p11kit import RemoteStore, remote_store
from tests.fixtures.swtpm import MessageBus, TpmStore, tpm_store

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
MESH = TokenSelector(label="mesh")
# So much before pytest-timeout ends everything, without a word about the processes.
_DUMP_BEFORE_S = 10.0

# Speed is no property of correct code; loaded machines are slow.
hypothesis_settings.register_profile(
    "meshkey", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("meshkey")

# Shells start what is in their background without it, and children inherit that: those that are
# to be interrupted would not hear of it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

OpenToken = Callable[[TokenProfile], Pkcs11Token]


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory whose path leaves room for sockets in it."""
    directory = Path(tempfile.mkdtemp(prefix="mk", dir="/tmp"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def softhsm(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> SoftHsmStore:
    """A fresh store with one token, "mesh"; this process and its children use it."""
    store = SoftHsmStore.create(short_dir / "softhsm")
    store.initialise("mesh")
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    return store


@pytest.fixture
def open_token(softhsm: SoftHsmStore) -> Iterator[OpenToken]:
    """Opens the token of `softhsm`. A module is one per process: one token at a time."""
    opened: list[Pkcs11Token] = []

    def open_with(profile: TokenProfile) -> Pkcs11Token:
        login = Login(PinFile(softhsm.directory / "mesh.pin"))
        assert not opened, "close the token before you open another one"
        opened.append(Pkcs11Token.open(MODULE, MESH, login, profile))
        return opened[-1]

    yield open_with
    for token in opened:
        token.close()


@pytest.fixture
def softhsm_token(open_token: OpenToken) -> Pkcs11Token:
    """A real token on SoftHSM2."""
    return open_token(SOFTHSM2)


@pytest.fixture(scope="session")
def message_bus() -> Iterator[MessageBus]:
    """For tpm2-abrmd. The TPM behind it may be another one in each test."""
    directory = Path(tempfile.mkdtemp(prefix="mk", dir="/tmp"))
    bus = MessageBus(directory)
    with bus.running():
        yield bus
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def tpm2(
    short_dir: Path, message_bus: MessageBus, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TpmStore]:
    """A fresh swtpm with a token "mesh"; this process and its children use it."""
    with tpm_store(short_dir / "tpm2", message_bus) as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        yield store


@pytest.fixture
def p11_kit(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteStore]:
    """A fresh token "mesh" in another process; this process and its children use it."""
    with remote_store(short_dir / "p11-kit") as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        yield store


def open_store(store: TpmStore | RemoteStore, profile: TokenProfile) -> Pkcs11Token:
    """The token of `store`. Close it before the store stops."""
    return Pkcs11Token.open(store.module, MESH, Login(PinFile(store.pin_file)), profile)


@pytest.fixture
def tpm2_token(tpm2: TpmStore) -> Iterator[Pkcs11Token]:
    """A real token in a TPM."""
    token = open_store(tpm2, TPM2)
    yield token
    token.close()


@pytest.fixture
def p11_kit_token(p11_kit: RemoteStore) -> Iterator[Pkcs11Token]:
    """A real token in another process."""
    token = open_store(p11_kit, P11_KIT)
    yield token
    token.close()


@pytest.fixture
def mesh(short_dir: Path) -> Iterator[Mesh]:
    """Nothing started yet."""
    made = Mesh(short_dir)
    with made.processes:
        yield made


@pytest.fixture(scope="module")
def running_mesh() -> Iterator[Mesh]:
    """A local CA, for tests that leave it as it was."""
    directory = Path(tempfile.mkdtemp(prefix="mk", dir="/tmp"))
    made = Mesh(directory)
    with made.processes:
        made.start_issuer()
        yield made
    shutil.rmtree(directory, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """Adds the logs of the processes to the report of a failure."""
    report = yield
    if report.failed:
        report.sections += [(f"log of {p.config.stem}", p.log_text()) for p in process.started]
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Prints the logs of the processes just before a test that hangs is ended."""
    timer = threading.Timer(time_limit(item) - _DUMP_BEFORE_S, process.dump_logs)
    timer.daemon = True
    timer.start()
    try:
        return (yield)
    finally:
        timer.cancel()
