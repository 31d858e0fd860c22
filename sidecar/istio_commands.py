"""`meshkey istio`: what a mesh needs, written from one file of values."""

from __future__ import annotations

from pathlib import Path

import click

from sidecar.errors import ConfigurationError
from sidecar.exits import one_line_errors

_PATH = click.Path(path_type=Path)


@click.group("istio")
def istio() -> None:
    """Install, inject and patch in an Istio mesh."""


@istio.command()
@click.option("--values", "values_file", required=True, type=_PATH, help="What to write it from.")
@click.option("--out", required=True, type=_PATH, help="The directory to write, anew.")
@one_line_errors
def generate(values_file: Path, out: Path) -> None:
    """Write overlays, injection templates, filters and policies, from a file of values."""
    try:
        from sidecar.istio.generate import generated
        from sidecar.istio.values_file import read
        from sidecar.istio.written import written
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"this needs {error.name}: pip install 'meshkey[istio]'"
        ) from error
    for path in written(generated(read(values_file)), out):
        click.echo(path)
