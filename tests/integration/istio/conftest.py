"""A pod whose init step has run, and Istio's CA."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.istio_pod import TRUST_DOMAIN, IstioPod
from tests.fixtures.istiod_thread import IstiodThread


@pytest.fixture
def istiod() -> Iterator[IstiodThread]:
    with IstiodThread(TRUST_DOMAIN).running() as made:
        yield made


@pytest.fixture
def fresh_pod(short_dir: Path, istiod: IstiodThread) -> Iterator[IstioPod]:
    """Its volumes are as Kubernetes makes them."""
    pod = IstioPod(short_dir, istiod)
    with pod.processes:
        yield pod


@pytest.fixture
def pod(fresh_pod: IstioPod) -> IstioPod:
    fresh_pod.prepare()
    return fresh_pod
