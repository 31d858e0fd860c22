"""The values as a YAML file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import yaml

from sidecar.errors import ConfigurationError
from sidecar.istio.values import Values
from sidecar.istio.values_document import parse


def read(file: Path) -> Values:
    """Policies in it are relative to the file.

    Raises:
        ConfigurationError: with the file, and the line or the value.
    """
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        values = parse(document)
    except OSError as error:
        raise ConfigurationError(f"values {file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"values {file}: {' '.join(str(error).split())}") from error
    return replace(values, policies=tuple(file.parent / each for each in values.policies))
