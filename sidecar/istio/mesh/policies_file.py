"""A file with the AuthorizationPolicies of a mesh, as their owners wrote them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from sidecar.errors import ConfigurationError
from sidecar.istio.mesh.policies import Policy, policy


def read(file: Path) -> Iterator[Policy]:
    """Objects of other kinds in it are passed over; a List is what is in it, as kubectl writes it.

    Raises:
        ConfigurationError: with the file, and the line or the object.
    """
    try:
        documents = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigurationError(f"policies {file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"policies {file}: {' '.join(str(error).split())}") from error
    for each in _objects(documents):
        if each.get("kind") == "AuthorizationPolicy":
            yield policy(str(file), each)


def _objects(documents: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
    for document in documents:
        if not isinstance(document, dict):
            continue
        if str(document.get("kind")).endswith("List"):
            yield from _objects(document.get("items") or ())
        else:
            yield document
