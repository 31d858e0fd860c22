"""What is installed on nodes: the seccomp and AppArmor profiles that meshkey brings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sidecar.istio.document import Copy

_PROFILES = Path(__file__).parent.parent / "profiles"


def node_profiles() -> Sequence[Copy]:
    """The files as they are: on a node they must be what was tested."""
    files = sorted(path for path in _PROFILES.rglob("*") if path.is_file())
    return [
        Copy(f"node/{path.relative_to(_PROFILES)}", path.read_text(encoding="utf-8"))
        for path in files
    ]
