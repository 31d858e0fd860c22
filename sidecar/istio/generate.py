"""From values to files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sidecar.errors import ConfigurationError
from sidecar.istio.document import MARKER, Document
from sidecar.istio.pods import access, configuration, install, network_policy
from sidecar.istio.pods.kustomization import kustomized
from sidecar.istio.values import Values

# Each part of a mesh has its builder: values in, documents out, nothing read or written.
_BUILDERS: tuple[Callable[[Values], Sequence[Document]], ...] = (
    install.build,
    configuration.build,
    access.build,
    network_policy.build,
)


def generated(values: Values) -> tuple[Document, ...]:
    """Every file that the values make."""
    documents = tuple(document for build in _BUILDERS for document in build(values))
    return (*documents, *kustomized(documents))


def written(documents: Sequence[Document], out: Path, *, force: bool = False) -> Iterator[Path]:
    """Writes them below `out`; yields each path when it is written.

    Raises:
        ConfigurationError: a file that is there was not written by this, and `force` is not
            given. Then nothing has been written.
    """
    if not force:
        for document in documents:
            _refuse_foreign(out / document.path, document.text())
    for document in documents:
        path = out / document.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document.text(), encoding="utf-8")
        yield path


def _refuse_foreign(path: Path, text: str) -> None:
    try:
        found = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    if MARKER not in found and found != text:
        raise ConfigurationError(
            f"{path} is there and was not written by this command: "
            "choose another --out, or overwrite it with --force"
        )
