"""`meshkey istio`: what a mesh needs, written from one set of values."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from sidecar.errors import ConfigurationError
from sidecar.exits import EXIT_FAILED, one_line_errors

_PATH = click.Path(path_type=Path)
_F = TypeVar("_F", bound=Callable[..., Any])
# All that adds to a file of values, or takes its place.
_FLAGS = (
    click.option("--trust-domain", metavar="NAME", help="As in the mesh's meshConfig.trustDomain."),
    click.option("--token", metavar="KIND", help="softhsm2, tpm2 or sgx-ctk."),
    click.option(
        "--ca", metavar="KIND[=SIGNER]", help="istiod, istio-csr, or kubernetes=SIGNERNAME."
    ),
    click.option("--image", metavar="IMAGE", help="meshkey's."),
    click.option("--proxy-image", metavar="IMAGE", help="Of a proxy that can load the module."),
    click.option(
        "--namespace",
        "namespaces",
        multiple=True,
        metavar="NAME[:permissive]",
        help="Whose pods may have the sidecar; may be repeated.",
    ),
    click.option(
        "--service",
        "services",
        multiple=True,
        metavar="HOST:PORT[/PROTOCOL]=NS/ACCOUNT[,...]",
        help="What they call, and who answers; may be repeated.",
    ),
    click.option(
        "--gateway",
        "gateways",
        multiple=True,
        metavar="NS/NAME:KEY=VALUE",
        help="A gateway, by a label of its pods; may be repeated.",
    ),
    click.option(
        "--policy",
        "policies",
        multiple=True,
        type=_PATH,
        help="A file with AuthorizationPolicies that name principals; may be repeated.",
    ),
)


@click.group("istio")
def istio() -> None:
    """Install, inject and patch in an Istio mesh."""


@contextmanager
def _extra() -> Iterator[None]:
    """Around imports of what not every installation has."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"this needs {error.name}: install meshkey with `make runtime EXTRA=istio`"
        ) from error


def _with_flags(command: _F) -> _F:
    for option in reversed(_FLAGS):
        command = option(command)
    return command


@istio.command()
@click.option("--values", "values_file", type=_PATH, help="What to write it from; flags add to it.")
@click.option("--out", required=True, type=_PATH, help="The directory to write to.")
@_with_flags
@click.option("--force", is_flag=True, help="Overwrite files that this has not written, too.")
@click.option("--json", "as_json", is_flag=True, help="Print the paths as JSON.")
@one_line_errors
def generate(values_file: Path | None, out: Path, force: bool, as_json: bool, **flags: Any) -> None:
    """Write overlays, injection templates, filters and policies, from values in a file or flags."""
    with _extra():
        from sidecar.istio.generate import files
        from sidecar.istio.values_document import parse
        from sidecar.istio.values_file import document
        from sidecar.istio.values_flags import Flags, with_flags
        from sidecar.istio.written import left_over, written
    values = with_flags(document(values_file) if values_file else {}, Flags(**flags))
    documents = files(parse(values))
    paths = [str(path) for path in written(documents, out, force=force)]
    click.echo(json.dumps({"written": paths}, indent=2) if as_json else "\n".join(paths))
    for path in left_over(documents, out):
        click.echo(f"{path} is of other values and no part of these: remove it", err=True)


@istio.command()
@click.argument("files", nargs=-1, required=True, type=_PATH, metavar="FILE...")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@one_line_errors
def check(files: tuple[Path, ...], as_json: bool) -> None:
    """Tell what is wrong with files or directories of YAML, taken together. Nothing is run."""
    from sidecar import tables

    with _extra():
        from sidecar.istio.check.catalogue import checked
        from sidecar.istio.check.finding import Severity
    findings = checked(files)
    if findings or as_json:
        tables.show_problems([each.to_json() for each in findings], as_json=as_json)
    else:
        click.echo("nothing is wrong with these files")
    if any(each.rule.severity is Severity.ERROR for each in findings):
        sys.exit(EXIT_FAILED)
