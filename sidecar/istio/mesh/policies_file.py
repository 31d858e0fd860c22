"""A file with the AuthorizationPolicies of a mesh, as their owners wrote them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from sidecar.errors import ConfigurationError
from sidecar.istio.mesh.policies import Policy, policy


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
            yield policy(str(file), document)
