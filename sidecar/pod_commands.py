"""`meshkey prepare-pod`: the init step of a pod."""

from __future__ import annotations

from pathlib import Path

import click

from sidecar.errors import ConfigurationError
from sidecar.exits import one_line_errors

_PATH = click.Path(path_type=Path)


@click.command("prepare-pod")
@click.option(
    "--volumes",
    type=_PATH,
    default=Path("/pod"),
    show_default=True,
    help="Where sockets, workload-socket, module and store are mounted, each a whole volume.",
)
@click.option("--module", type=_PATH, help="The Envoy module; by default the image's own.")
@click.option("--softhsm2", "label", metavar="LABEL", help="Make this token in the store.")
@click.option("--pin", type=_PATH, help="Instead: the PIN of a token that is there; it is copied.")
@one_line_errors
def prepare_pod(volumes: Path, module: Path | None, label: str | None, pin: Path | None) -> None:
    """Make the directories that a pod's containers mount, without root; put module and token there.

    Run again, as a restarted init container is, it changes nothing.
    """
    from sidecar.config.values import identity_name
    from sidecar.hardening.memory import protect_memory
    from sidecar.pod.module_file import beside_program
    from sidecar.pod.prepare import Volumes, prepare

    if label is not None and pin is not None:
        raise ConfigurationError("--softhsm2 makes a PIN, and --pin brings one: leave one out")
    try:
        label = label and identity_name(label)
    except ValueError as error:
        raise ConfigurationError(f"--softhsm2: {error}") from None
    protect_memory()
    for done in prepare(Volumes(volumes.absolute()), module or beside_program(), label, pin):
        click.echo(done, err=True)
