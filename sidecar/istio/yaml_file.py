"""Files of YAML that somebody wrote, as plain data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from sidecar.errors import ConfigurationError


def documents(what: str, file: Path) -> list[Any]:
    """Every document in it.

    Raises:
        ConfigurationError: with `what` it is, the file, and the line.
    """
    try:
        return list(yaml.load_all(file.read_text(encoding="utf-8"), Loader=_Once))
    except OSError as error:
        raise ConfigurationError(f"{what} {file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{what} {file}: {' '.join(str(error).split())}") from error


class _Once(yaml.SafeLoader):  # type: ignore[misc] # no type hints
    """A key that is there twice is a mistake: readers of YAML differ in which of the two counts."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        if len(mapping) != len(node.value):
            raise yaml.constructor.ConstructorError(
                problem="a key is there twice", problem_mark=node.start_mark
            )
        return mapping
