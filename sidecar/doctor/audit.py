"""The directory of the audit log."""

from __future__ import annotations

from sidecar.audit.files import require_log_directory
from sidecar.config.settings import AuditSettings
from sidecar.doctor.directories import require_there_or_makeable
from sidecar.doctor.finding import Finding, tried


def examine_audit(settings: AuditSettings) -> Finding:
    """Whether a start could write there. It takes no lock: a process may be writing."""
    directory = settings.directory

    def usable() -> str:
        if to_come := require_there_or_makeable(directory, 0o750):
            return to_come
        return f"{directory}, mode {require_log_directory(directory):04o}"

    return tried("audit.directory", usable)
