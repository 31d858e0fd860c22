"""Generated code is what the .proto files make today."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
    made = _contents(tmp_path / GENERATED, "*.py", "*.pyi")
    assert _contents(ROOT / GENERATED, "*.py", "*.pyi") == made


@pytest.mark.timeout(600)  # builds the generator
def test_the_committed_rust_is_what_the_generator_makes(tmp_path: Path) -> None:
    descriptors = tmp_path / "signer.binpb"
    protoc = [sys.executable, "-m", "grpc_tools.protoc", "-Iproto", "--include_imports"]
    subprocess.run(
        [*protoc, f"--descriptor_set_out={descriptors}", "meshkey/signer/v1/signer.proto"],
        cwd=ROOT,
        check=True,
    )
    made = tmp_path / "made"
    made.mkdir()
    generator = [str(ROOT / "tools" / "cargo"), "run", "--quiet", "--locked"]
    arguments = ["-p", "meshkey-codegen", "--", str(descriptors), str(made)]
    subprocess.run([*generator, *arguments], check=True)
    committed = ROOT / "envoy-module" / "src" / "proto"
    assert _contents(committed, "*.rs") == _contents(made, "*.rs")


def _contents(directory: Path, *patterns: str) -> dict[str, bytes]:
    return {
        str(file.relative_to(directory)): file.read_bytes()
        for pattern in patterns
        for file in directory.rglob(pattern)
        if file.name != "__init__.py"
    }
