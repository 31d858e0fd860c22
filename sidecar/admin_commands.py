"""Commands to a running process: the ends of identities and keys, and another configuration."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sidecar.command_options import admin_socket_of, config_option, json_option, status_socket_of
from sidecar.core.printable import printable
from sidecar.exits import EXIT_FAILED, one_line_errors

if TYPE_CHECKING:
    from sidecar._proto.meshkey.admin.v1 import admin_pb2 as pb


@click.command()
@config_option
@click.argument("identity", default="default", metavar="[NAME]")
@click.option("--yes", is_flag=True, help="Do not ask.")
@one_line_errors
def deprovision(config: Path, identity: str, yes: bool) -> None:
    """End an identity of a running sidecar: nothing is signed for it from now on.

    Its keys are destroyed, its connections closed, and a restart does not bring it back; that
    takes: meshkey reinstate. Prints what is left to do elsewhere; exits with 69 if something
    could not be done.
    """
    from sidecar.admin.client import AdminClient

    socket = admin_socket_of(config)
    if not yes:
        _require_consent(identity)
    with AdminClient(socket) as client:
        response = client.deprovision(identity)
    click.echo(f"{response.identity}: deprovisioned; nothing is signed for it any more")
    _show_end(
        response,
        "this sidecar keeps no state for it (identity.state), so a restart brings it back: take "
        "its section out of the configuration first, or stop the sidecar",
    )
    click.echo(f"back again with: meshkey reinstate {response.identity}")
    _exit(response)


@click.command()
@config_option
@click.argument("key_id", metavar="KEY")
@one_line_errors
def revoke(config: Path, key_id: str) -> None:
    """End one key of a running sidecar, KEY as in meshkey keys live: it signs no more.

    It is destroyed, and connections that it made are closed. If it is the one in use, its
    identity gets another one at once. Prints what is left to do elsewhere; exits with 69 if
    something could not be done.
    """
    from sidecar.admin.client import AdminClient

    try:
        wanted = bytes.fromhex(key_id)
    except ValueError:
        raise click.BadParameter(
            "a key id in hexadecimal is needed, as meshkey keys live prints it", param_hint="KEY"
        ) from None
    with AdminClient(admin_socket_of(config)) as client:
        response = client.revoke(wanted)
    click.echo(f"{response.identity}: key {wanted.hex()} is revoked and never signs again")
    _show_end(
        response,
        "this sidecar keeps no state for it (identity.state): if the key is still there after a "
        "restart, it is used again",
    )
    _exit(response)


@click.command()
@config_option
@click.argument("identity", default="default", metavar="[NAME]")
@one_line_errors
def reinstate(config: Path, identity: str) -> None:
    """Let a deprovisioned identity of a running sidecar live again.

    It gets a new certificate, for a new key unless it was given one.
    """
    from sidecar.admin.client import AdminClient

    with AdminClient(admin_socket_of(config)) as client:
        client.reinstate(identity)
    click.echo(f"{identity}: reinstated; it asks its CA for a certificate now: meshkey status")


@click.command()
@config_option
@one_line_errors
def reload(config: Path) -> None:
    """Have a running process read its configuration again; SIGHUP does the same.

    What cannot change while it runs is named, and then nothing changes.
    """
    from sidecar.admin.client import AdminClient

    with AdminClient(admin_socket_of(config)) as client:
        response = client.reload()
    changed = ", ".join(response.changed)
    click.echo(f"reloaded; changed: {changed}" if changed else "reloaded; no setting differs")


@click.command("live")
@config_option
@json_option
@one_line_errors
def live(config: Path, as_json: bool) -> None:
    """List the keys that a running sidecar signs with, and those that were revoked.

    Asks the process, not the token: meshkey keys list shows what is on that, in use or not.
    """
    from sidecar import tables
    from sidecar.admin.client import AdminClient

    with AdminClient(status_socket_of(config)) as client:
        tables.show_live_keys(client.keys(), as_json=as_json)


def _require_consent(identity: str) -> None:
    if not _is_attended():
        raise click.UsageError("nobody is there to be asked: add --yes")
    click.echo(
        f"{printable(identity)}: its keys are destroyed for good and its connections closed.",
        err=True,
    )
    click.confirm("Deprovision it?", abort=True, err=True)


def _is_attended() -> bool:
    return sys.stdin.isatty()


def _show_end(response: pb.EndResponse, forgotten: str) -> None:
    for key_id in response.destroyed:
        click.echo(f"destroyed: key {key_id.hex()}; a search finds it no more")
    for key_id in response.spared:
        click.echo(
            f"still there: key {key_id.hex()}; this sidecar did not make it, so it only uses it no "
            f"more. Remove it with: meshkey keys destroy {key_id.hex()}"
        )
    if response.tombstone:
        click.echo(f"it stays so after a restart: {printable(response.tombstone)}")
    elif not response.problems:
        click.echo(f"to do: {forgotten}")
    for each in response.certificates:
        not_after = datetime.fromtimestamp(each.not_after, UTC).isoformat()
        click.echo(
            f"to do: revoke the certificate with serial {each.serial} of issuer "
            f"{printable(each.issuer)} there: until {not_after} it is valid for everybody who "
            f"does not know better. Its key {each.key_id.hex()} signs nothing here any more."
        )
    if response.certificates:
        click.echo(
            "to do: put the SPIFFE ID on the deny list of its peers, if they are to close their "
            "connections with it as well"
        )
    for problem in response.problems:
        click.echo(f"not done: {printable(problem)}; it is tried again while it runs", err=True)


def _exit(response: pb.EndResponse) -> None:
    if response.problems:
        sys.exit(EXIT_FAILED)
