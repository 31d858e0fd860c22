"""The mesh that most tests of Istio share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.istio.mesh import SharedMesh, shared_mesh
from tests.e2e.lab import Lab


@pytest.fixture(scope="package")
def mesh(lab: Lab) -> Iterator[SharedMesh]:
    with shared_mesh(lab) as mesh:
        yield mesh
