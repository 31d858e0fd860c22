"""Generated code is what the .proto files make today."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
GENERATED = Path("sidecar/_proto")


def test_the_committed_python_is_what_protoc_makes(tmp_path: Path) -> None:
    protos = [str(proto.relative_to(ROOT)) for proto in sorted((ROOT / "proto").rglob("*.proto"))]
    assert protos
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "grpc_python", "pyi")]
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{GENERATED}=proto", *outputs, *protos],
        cwd=ROOT,
        check=True,
    )
    assert _contents(ROOT / GENERATED) == _contents(tmp_path / GENERATED)


def _contents(directory: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(directory)): file.read_bytes()
        for pattern in ("*.py", "*.pyi")
        for file in directory.rglob(pattern)
        if file.name != "__init__.py"
    }
