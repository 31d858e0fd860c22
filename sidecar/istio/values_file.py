"""The values as a YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sidecar.errors import ConfigurationError
from sidecar.istio.table import mistake
from sidecar.istio.values import Values
from sidecar.istio.values_document import parse


def read(file: Path) -> Values:
    """Policies in it are relative to the file.

    Raises:
        ConfigurationError: with the file, and the line or the value.
    """
    return parse(document(file))


def document(file: Path) -> Mapping[str, Any]:
    """What the file says, to be added to and parsed; `read` says the rest."""
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), Loader=_Once)  # noqa: S506 # a SafeLoader
    except OSError as error:
        raise ConfigurationError(f"values {file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"values {file}: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise mistake(f"values {file}", "a mapping is needed")
    policies = content.get("policies")
    if isinstance(policies, list):
        content["policies"] = [_beside(file, policy) for policy in policies]
    return content


def _beside(file: Path, policy: Any) -> Any:
    # An empty one, or what is no text, is for the parser to complain of.
    return str(file.parent / policy) if isinstance(policy, str) and policy else policy


class _Once(yaml.SafeLoader):  # type: ignore[misc] # no type hints
    """A key that is there twice is a mistake: readers of YAML differ in which of the two counts."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        if len(mapping) != len(node.value):
            raise yaml.constructor.ConstructorError(
                problem="a key is there twice", problem_mark=node.start_mark
            )
        return mapping
