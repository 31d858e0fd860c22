"""The command line: arguments in, exit codes out. Each command imports only what it needs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from sidecar import __version__
from sidecar.admin_commands import deprovision, live, reinstate, reload, revoke
from sidecar.audit_commands import audit
from sidecar.command_options import (
    admin_socket_of,
    config_option,
    json_option,
    opened_token,
    settings_of,
    status_socket_of,
)
from sidecar.deny_commands import deny_list
from sidecar.errors import ConfigurationError
from sidecar.exits import EXIT_FAILED, one_line_errors
from sidecar.istio_commands import istio
from sidecar.key_commands import keys
from sidecar.pod_commands import prepare_pod


def main() -> None:
    """Runs the command and exits the process."""
    commands(prog_name="meshkey")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def commands() -> None:
    """TLS keys of a service mesh that live in a PKCS#11 token, never in the proxy."""


@commands.command()
@config_option
@click.option("--production", is_flag=True, help="The same as token.mode production, and wins.")
@one_line_errors
def serve(config: Path, production: bool) -> None:
    """Run the sidecar, or the local CA, that the configuration describes."""
    import asyncio

    from sidecar.hardening import start

    start.shed_inheritance()
    overrides = {"MESHKEY_TOKEN_MODE": "production"} if production else {}
    settings = settings_of(config, overrides)
    # Not before: nothing but the configuration is read as root.
    from sidecar.app.serve import serve as run
    from sidecar.config.load import load

    asyncio.run(run(settings, lambda: load(config, {**os.environ, **overrides})))


commands.add_command(keys)
keys.add_command(live)
for command in (deprovision, revoke, reinstate, reload):
    commands.add_command(command)
commands.add_command(audit)
commands.add_command(deny_list)
commands.add_command(istio)
commands.add_command(prepare_pod)


@commands.group("token")
def token_commands() -> None:
    """Prepare and examine tokens."""


@token_commands.command("seal-pin")
@click.option(
    "--out",
    "prefix",
    required=True,
    type=click.Path(path_type=Path, resolve_path=True),
    help="Writes PREFIX.pub and PREFIX.priv, for token.pin_sealed.",
    metavar="PREFIX",
)
@one_line_errors
def seal_pin(prefix: Path) -> None:
    """Seal the PIN on standard input with this machine's TPM (tpm2-tools, TPM2TOOLS_TCTI)."""
    from sidecar.hardening.memory import protect_memory
    from sidecar.token.pin import Pin
    from sidecar.token.sealed_pin import seal

    protect_memory()
    if sys.stdin.isatty():
        entered = click.prompt("PIN", hide_input=True, confirmation_prompt=True, err=True).encode()
    else:
        entered = sys.stdin.buffer.readline()
    seal(Pin.first_line(entered, "standard input"), prefix)
    click.echo(f"sealed; set token.pin_sealed to {prefix}", err=True)


@token_commands.command()
@config_option
@json_option
@click.option(
    "--algorithm",
    "names",
    multiple=True,
    help="Try this one only, for example rsa-3072; may be given several times.",
)
@one_line_errors
def probe(config: Path, as_json: bool, names: tuple[str, ...]) -> None:
    """Find out what the token can do: a trial key of each kind is made, used and destroyed."""
    from sidecar import tables
    from sidecar.config.values import key_algorithm
    from sidecar.core.schemes import KeyAlgorithm
    from sidecar.token.probe import try_out

    try:
        algorithms = [key_algorithm(name) for name in names] or list(KeyAlgorithm)
    except ValueError as error:
        raise ConfigurationError(f"--algorithm: {error}") from None
    with opened_token(settings_of(config)) as token:
        report = try_out(token, algorithms, lambda a: click.echo(f"trying {a.value}", err=True))
    tables.show_report(report, as_json=as_json)


@commands.command()
@config_option
@json_option
@one_line_errors
def doctor(config: Path, as_json: bool) -> None:
    """Examine token, settings and machine; exits with 69 if something would not work."""
    from sidecar import tables
    from sidecar.app.clock import wall
    from sidecar.app.token import open_token
    from sidecar.doctor.examination import examine
    from sidecar.doctor.finding import Verdict
    from sidecar.doctor.surroundings import examine_surroundings

    settings, now = settings_of(config), wall()
    findings = [*examine(settings, open_token, now), *examine_surroundings(settings, now)]
    tables.show_findings(findings, as_json=as_json)
    if any(finding.verdict is Verdict.FAILURE for finding in findings):
        sys.exit(EXIT_FAILED)


@commands.command()
@config_option
@json_option
@one_line_errors
def status(config: Path, as_json: bool) -> None:
    """Show what a running sidecar or local CA is doing."""
    from sidecar import tables
    from sidecar.admin.client import AdminClient

    with AdminClient(status_socket_of(config)) as client:
        tables.show_status(client.status(), as_json=as_json)


@commands.command()
@config_option
@json_option
@click.option("--live", is_flag=True, help="Only whether the process answers, for liveness probes.")
@one_line_errors
def health(config: Path, as_json: bool, live: bool) -> None:
    """Whether a running process can do its work; exits with 69 and the reasons if not."""
    import json

    from sidecar.admin.client import AdminClient
    from sidecar.core.printable import printable

    with AdminClient(status_socket_of(config)) as client:
        problems = client.health()
    if as_json:
        click.echo(json.dumps({"healthy": not problems, "problems": problems}, indent=2))
    else:
        click.echo("\n".join(map(printable, problems)) or "healthy")
    if problems and not live:
        sys.exit(EXIT_FAILED)


@commands.command()
@config_option
@click.argument("identity", default="default", metavar="[NAME]")
@one_line_errors
def rotate(config: Path, identity: str) -> None:
    """Renew an identity of a running sidecar now: a new key, a new certificate."""
    from sidecar.admin.client import AdminClient

    with AdminClient(admin_socket_of(config)) as client:
        click.echo(f"{identity}: generation {client.rotate(identity)} is published")


@commands.command()
@click.option("--keep", is_flag=True, help="Leave everything running until interrupted.")
@one_line_errors
def demo(keep: bool) -> None:
    """Show the main job on this machine: two stock Envoys, keys in SoftHSM2, mutual TLS."""
    try:
        from sidecar.demo.demo import run
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the demo needs {error.name}: run make demo in a checkout of meshkey"
        ) from error
    sys.exit(run(keep=keep))


@commands.command()
def version() -> None:
    """Print the version."""
    click.echo(f"meshkey {__version__}")
