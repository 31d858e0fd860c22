"""One mesh for all tests that leave it as it was, and the logs of a test that failed."""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from sidecar.demo.envoy import Envoy
from tests.e2e.application import Application
from tests.e2e.lab import Lab, open_labs
from tests.e2e.record import wait_for_identity
from tests.fixtures.limits import time_limit

# So much before pytest-timeout ends everything.
_DUMP_BEFORE_S = 15.0


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="session")
def shared_application() -> Iterator[Application]:
    with Application() as application:
        yield application


@pytest.fixture
def application(shared_application: Application) -> Application:
    """It has seen nothing yet."""
    shared_application.forget()
    return shared_application


@pytest.fixture(scope="session")
def server(lab: Lab, shared_application: Application) -> Iterator[Envoy]:
    """envoy-config/server.yaml before the application."""
    with lab.server(shared_application.port) as envoy:
        wait_for_identity(envoy)
        yield envoy


@pytest.fixture(scope="session")
def client(lab: Lab, server: Envoy) -> Iterator[Envoy]:
    """envoy-config/client.yaml, connected to `server`."""
    with lab.client(server.port("mtls")) as envoy:
        wait_for_identity(envoy)
        yield envoy


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """Adds the logs of every process to the report of a failure."""
    report = yield
    if report.failed:
        report.sections += [entry for lab in open_labs for entry in lab.logs()]
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Prints the logs just before a test that hangs is ended."""
    timer = threading.Timer(time_limit(item) - _DUMP_BEFORE_S, _dump)
    timer.daemon = True
    timer.start()
    try:
        return (yield)
    finally:
        timer.cancel()


def _dump() -> None:
    for lab in open_labs:
        for name, text in lab.logs():
            print(f"--- {name}", text, sep="\n", file=sys.__stderr__)
