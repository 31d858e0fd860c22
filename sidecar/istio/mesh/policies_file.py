"""The AuthorizationPolicies of a mesh, as their owners wrote them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sidecar.errors import ConfigurationError


@dataclass(frozen=True)
class Policy:
    """An AuthorizationPolicy. `where` names it in errors; `spec` is without its rules."""

    where: str
    namespace: str
    name: str
    annotations: Mapping[str, str]
    spec: Mapping[str, Any]
    rules: tuple[Mapping[str, Any], ...]


def read(file: Path) -> Iterator[Policy]:
    """Objects of other kinds in it are passed over.

    Raises:
        ConfigurationError: with the file, and the line or the object.
    """
    try:
        documents = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigurationError(f"policies {file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"policies {file}: {' '.join(str(error).split())}") from error
    for document in documents:
        if isinstance(document, dict) and document.get("kind") == "AuthorizationPolicy":
            yield _policy(file, document)


def _policy(file: Path, document: Mapping[str, Any]) -> Policy:
    metadata = _mapping(f"{file}: AuthorizationPolicy", document.get("metadata"))
    where = f"{file}: AuthorizationPolicy {metadata.get('namespace')}/{metadata.get('name')}"
    for key in ("name", "namespace"):
        if not isinstance(metadata.get(key), str):
            raise ConfigurationError(f"{where}: metadata.{key} is missing")
    spec = dict(_mapping(f"{where}: spec", document.get("spec") or {}))
    rules = spec.pop("rules", None) or []
    if not isinstance(rules, list):
        raise ConfigurationError(f"{where}: spec.rules: a list is needed")
    return Policy(
        where=where,
        namespace=metadata["namespace"],
        name=metadata["name"],
        annotations=_mapping(f"{where}: metadata.annotations", metadata.get("annotations") or {}),
        spec=spec,
        rules=tuple(_mapping(f"{where}: rule {n}", rule or {}) for n, rule in enumerate(rules)),
    )


def _mapping(where: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigurationError(f"{where}: a mapping is needed")
    return value
