"""`meshkey keys`: what is on the token, what comes onto it, and what goes."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from sidecar.command_options import config_option, json_option, opened_token, settings_of
from sidecar.core.printable import printable
from sidecar.errors import InputMissing, KeyInUse, KeyUnsuitable, NoSuchKey
from sidecar.exits import one_line_errors

if TYPE_CHECKING:
    from cryptography import x509

    from sidecar.config.settings import Settings
    from sidecar.token.base import TokenKey
    from sidecar.token.pkcs11 import Pkcs11Token

# RFC 1034 section 3.5, with a wildcard (RFC 6125 section 6.4.3).
_DNS_NAME = re.compile(r"(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9][a-z0-9-]{0,62}")


@click.group(invoke_without_command=True)
@config_option
@json_option
@click.pass_context
@one_line_errors
def keys(context: click.Context, config: Path, as_json: bool) -> None:
    """List, import and destroy private keys on the configured token."""
    if context.invoked_subcommand is None:
        _list(config, as_json=as_json)
    for option in ("config", "as_json"):
        if (
            context.invoked_subcommand
            and context.get_parameter_source(option) is ParameterSource.COMMANDLINE
        ):
            raise click.UsageError("options come after the subcommand: meshkey keys list --json")


@keys.command("list")
@config_option
@json_option
@one_line_errors
def list_command(config: Path, as_json: bool) -> None:
    """List the private keys on the configured token."""
    _list(config, as_json=as_json)


@keys.command("import")
@config_option
@click.argument("file")
@click.option("--label", required=True, help="How the key is called on the token.")
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    help="Its first line opens an encrypted key; otherwise it is asked for at the terminal.",
)
@one_line_errors
def import_command(config: Path, file: str, label: str, passphrase_file: Path | None) -> None:
    """Bring the private key in FILE (PKCS#8, PEM or DER; "-": standard input) into the token.

    Prints its key id. The file stays where it is, and whoever has it has the key.
    """
    from sidecar.core.public_key import algorithm_of
    from sidecar.key_files import read_private_key

    settings = settings_of(config)
    private_key = read_private_key(file, passphrase_file)
    with opened_token(settings) as token:
        imported = token.import_key(private_key, label)
    del private_key
    algorithm = algorithm_of(imported.key.public_key)
    assert algorithm is not None
    how = {
        "wrapped": "wrapped for the token",
        "created": "in plain: the token unwraps no such keys",
    }[imported.way.value]
    click.echo(f"imported a key of {algorithm.value}, {how}", err=True)
    click.echo(str(imported.key.id))


@keys.command("export-csr")
@config_option
@click.argument("key_id")
@click.option("--spiffe-id", help="Ask for this SPIFFE ID.")
@click.option("--dns", multiple=True, help="Ask for this DNS name; may be repeated.")
@click.option("--out", type=click.Path(path_type=Path), help="Write there, not to standard output.")
@one_line_errors
def export_csr(
    config: Path, key_id: str, spiffe_id: str | None, dns: Sequence[str], out: Path | None
) -> None:
    """Print a certificate signing request, PEM, that the token signs with the key KEY_ID."""
    from cryptography.hazmat.primitives.serialization import Encoding

    from sidecar.core.csr import build_request
    from sidecar.core.token_key import token_private_key
    from sidecar.token.base import Origin

    names = _names(spiffe_id, dns)
    with opened_token(settings_of(config)) as token:
        (key,) = _found(token, [key_id])
        if key.origin is Origin.EXPOSED:
            raise KeyUnsuitable(f"key {key.id} could leave the token, so it is not used")
        private = token_private_key(
            key.public_key, lambda scheme, message: token.sign(key.id, scheme, message)
        )
        pem = build_request(names, private).public_bytes(Encoding.PEM)
    if out is None:
        click.echo(pem, nl=False)
        return
    try:
        out.write_bytes(pem)
    except OSError as error:
        raise InputMissing(f"{out}: {error.strerror}") from error


@keys.command("destroy")
@config_option
@click.argument("key_ids", nargs=-1, required=True, metavar="KEY_ID...")
@click.option("--yes", is_flag=True, help="Do not ask.")
@one_line_errors
def destroy(config: Path, key_ids: Sequence[str], yes: bool) -> None:
    """Destroy keys for good, certificates or not. A key that a sidecar uses is refused."""
    settings = settings_of(config)
    with opened_token(settings) as token:
        found = _found(token, key_ids)
        _require_unused(settings, found)
        if not yes:
            for key in found:
                click.echo(f"{key.id}  {printable(key.label)}  {key.origin.value}", err=True)
            click.confirm("Destroy for good?", abort=True, err=True)
            # The answer may have taken its time.
            _require_unused(settings, found)
        for key in found:
            token.destroy(key.id)
            click.echo(f"destroyed {key.id}", err=True)


def _list(config: Path, *, as_json: bool) -> None:
    from sidecar import tables

    with opened_token(settings_of(config)) as token:
        tables.show_keys(token.keys(), as_json=as_json)


def _found(token: Pkcs11Token, key_ids: Sequence[str]) -> list[TokenKey]:
    there = {str(key.id): key for key in token.keys()}  # noqa: SIM118  # a method of ours
    wanted = dict.fromkeys(key_id.lower() for key_id in key_ids)
    for key_id in wanted:
        if key_id not in there:
            raise NoSuchKey(
                f"no key {printable(key_id)} on token {token.label!r}; "
                "list its keys with: meshkey keys list"
            )
    return [there[key_id] for key_id in wanted]


def _require_unused(settings: Settings, keys: Sequence[TokenKey]) -> None:
    from sidecar.admin.client import AdminClient, CommandFailed

    if settings.admin is None:
        return
    socket = settings.admin.socket
    try:
        with AdminClient(socket) as client:
            live = client.keys()
    except CommandFailed as error:
        if os.path.lexists(socket):
            click.echo(f"meshkey: warning: not known whether it is in use: {error}", err=True)
        return
    for key in keys:
        for each in live:
            if each.key_id == key.id.value and each.state != "revoked":
                raise KeyInUse(
                    f"key {key.id} is in use by identity {each.identity!r} of the process at "
                    f"{socket}; stop it first"
                )


def _names(spiffe_id: str | None, dns: Sequence[str]) -> list[x509.GeneralName]:
    from cryptography import x509

    from sidecar.core.spiffe import SpiffeId

    if bool(spiffe_id) is bool(dns):
        raise click.UsageError("one of --spiffe-id and --dns is needed")
    if spiffe_id:
        try:
            return [x509.UniformResourceIdentifier(str(SpiffeId.parse(spiffe_id)))]
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--spiffe-id") from None
    for name in dns:
        if len(name) > 253 or not _DNS_NAME.fullmatch(name.lower()):
            raise click.BadParameter(f"{name!r} is no DNS name", param_hint="--dns")
    return [x509.DNSName(name.lower()) for name in dns]
