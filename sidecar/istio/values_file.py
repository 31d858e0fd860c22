"""The values as a YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sidecar.istio.table import mistake
from sidecar.istio.values import Values
from sidecar.istio.values_document import parse
from sidecar.istio.yaml_file import documents


def read(file: Path) -> Values:
    """Policies in it are relative to the file.

    Raises:
        ConfigurationError: with the file, and the line or the value.
    """
    return parse(document(file))


def document(file: Path) -> Mapping[str, Any]:
    """What the file says, to be added to and parsed; `read` says the rest."""
    found = documents("values", file)
    if len(found) > 1:
        raise mistake(f"values {file}", "one document is needed, not several")
    content = found[0] if found else None
    if not isinstance(content, dict):
        raise mistake(f"values {file}", "a mapping is needed")
    policies = content.get("policies")
    if isinstance(policies, list):
        content["policies"] = [_beside(file, policy) for policy in policies]
    return content


def _beside(file: Path, policy: Any) -> Any:
    # An empty one, or what is no text, is for the parser to complain of.
    return str(file.parent / policy) if isinstance(policy, str) and policy else policy
