"""AuthorizationPolicies, as far as it matters who is meant by them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sidecar.errors import ConfigurationError
from sidecar.istio.document import PART_OF


@dataclass(frozen=True)
class Rule:
    """Any of `sources`, all of `when`; `to` is as it was written. Without sources: everybody."""

    where: str
    sources: tuple[Mapping[str, Any], ...]
    to: Any
    when: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Policy:
    """`spec` is without the rules. `generated`: it is a twin, as a cluster gives it back."""

    namespace: str
    name: str
    annotations: Mapping[str, str]
    spec: Mapping[str, Any]
    rules: tuple[Rule, ...]
    generated: bool


def policy(where: str, document: Mapping[str, Any]) -> Policy:
    """From an object of Kubernetes.

    Raises:
        ConfigurationError: beginning with `where` and the object's name.
    """
    metadata = _mapping(f"{where}: AuthorizationPolicy: metadata", document.get("metadata"))
    for key in ("name", "namespace"):
        if not isinstance(metadata.get(key), str):
            raise ConfigurationError(f"{where}: AuthorizationPolicy: metadata.{key} is missing")
    here = f"{where}: AuthorizationPolicy {metadata['namespace']}/{metadata['name']}"
    spec = dict(_mapping(f"{here}: spec", document.get("spec")))
    labels = _mapping(f"{here}: metadata.labels", metadata.get("labels"))
    rules = enumerate(_mappings(f"{here}: spec.rules", spec.pop("rules", None)))
    return Policy(
        namespace=metadata["namespace"],
        name=metadata["name"],
        annotations=_mapping(f"{here}: metadata.annotations", metadata.get("annotations")),
        spec=spec,
        rules=tuple(_rule(f"{here}: rule {index}", each) for index, each in rules),
        generated=PART_OF.items() <= labels.items(),
    )


def _rule(where: str, value: Mapping[str, Any]) -> Rule:
    sources = _mappings(f"{where}: from", value.get("from"))
    return Rule(
        where=where,
        sources=tuple(_mapping(f"{where}: source", each.get("source")) for each in sources),
        to=value.get("to"),
        when=_mappings(f"{where}: when", value.get("when")),
    )


def _mapping(where: str, value: Any) -> Mapping[str, Any]:
    """Nothing is an empty one."""
    if value is not None and not isinstance(value, dict):
        raise ConfigurationError(f"{where}: a mapping is needed")
    return value or {}


def _mappings(where: str, value: Any) -> tuple[Mapping[str, Any], ...]:
    if value is not None and not isinstance(value, list):
        raise ConfigurationError(f"{where}: a list is needed")
    return tuple(_mapping(where, each) for each in value or ())
