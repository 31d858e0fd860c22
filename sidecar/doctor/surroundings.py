"""Everything that the doctor looks at beside the configured parts themselves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime

from sidecar.config.settings import Settings
from sidecar.doctor.clock import ClockFacts, examine_clock
from sidecar.doctor.enclave import examine_enclave
from sidecar.doctor.finding import Finding
from sidecar.doctor.kernel import KernelFacts, examine_kernel
from sidecar.doctor.process import ProcessFacts, examine_process
from sidecar.doctor.separation import examine_separation


def examine_surroundings(settings: Settings, now: datetime) -> Iterator[Finding]:
    """Of the process as it is, which must be the configured user's already. Blocks."""
    yield from examine_enclave(settings.token)
    process = ProcessFacts.read()
    yield from examine_process(settings, process)
    kernel = KernelFacts.read()
    yield from examine_separation(
        settings, process.process, os.environ, sees_programs=kernel.sees_programs
    )
    yield from examine_kernel(kernel)
    yield from examine_clock(now, ClockFacts.read())
