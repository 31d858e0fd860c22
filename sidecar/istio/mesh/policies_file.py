"""A file with the AuthorizationPolicies of a mesh, as their owners wrote them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sidecar.istio.mesh.policies import Policy, policy
from sidecar.istio.yaml_file import documents


def read(file: Path) -> Iterator[Policy]:
    """Objects of other kinds in it are passed over; a List is what is in it, as kubectl writes it.

    Raises:
        ConfigurationError: with the file, and the line or the object.
    """
    for each in _objects(documents("policies", file)):
        if each.get("kind") == "AuthorizationPolicy":
            yield policy(str(file), each)


def _objects(found: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
    for document in found:
        if not isinstance(document, dict):
            continue
        if str(document.get("kind")).endswith("List"):
            yield from _objects(document.get("items") or ())
        else:
            yield document
