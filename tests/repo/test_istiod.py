"""The program with Istio's own code is made of exactly what its go.mod and go.sum name."""

from __future__ import annotations

import re
from pathlib import Path

_PROGRAM = Path(__file__).parents[1] / "tools" / "istiod"


def test_every_module_is_pinned_and_none_is_replaced() -> None:
    lines = (_PROGRAM / "go.mod").read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if line.startswith("replace")]
    required = [line.split() for line in lines if line.startswith("\t")]
    assert ["istio.io/istio"] in [each[:1] for each in required]
    for module, version, *_ in required:
        assert re.fullmatch(r"v\d+\.\d+\.\d+[-+.0-9A-Za-z]*", version), module


def test_every_module_that_is_required_has_a_hash() -> None:
    required = re.findall(r"^\t(\S+) (\S+)", (_PROGRAM / "go.mod").read_text("utf-8"), re.M)
    hashed = (_PROGRAM / "go.sum").read_text(encoding="utf-8")
    missing = [
        f"{module} {version}"
        for module, version in required
        if f"{module} {version} h1:" not in hashed or f"{module} {version}/go.mod h1:" not in hashed
    ]
    assert missing == []
