"""`meshkey deny-list`: made with a key in the operator's token, read with its public half."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sidecar.command_options import config_option, json_option, opened_token, settings_of
from sidecar.core.printable import printable
from sidecar.errors import DenyListRefused, InputMissing, KeyUnsuitable, NoSuchKey
from sidecar.exits import one_line_errors

if TYPE_CHECKING:
    from sidecar.core.public_key import PublicKey
    from sidecar.core.spiffe import SpiffeId
    from sidecar.token.base import TokenKey
    from sidecar.token.pkcs11 import Pkcs11Token

_PATH = click.Path(path_type=Path)
_key_id_option = click.option(
    "--key-id", required=True, help="The key on the token, as `make-key` said."
)


@click.group("deny-list")
def deny_list() -> None:
    """Make and examine signed lists of peers that are refused whoever certifies them."""


@deny_list.command("make-key")
@config_option
@click.option(
    "--algorithm",
    type=click.Choice(["ec-p256", "ec-p384", "ed25519"]),
    default="ec-p256",
    show_default=True,
    help="What the key is.",
)
@one_line_errors
def make_key(config: Path, algorithm: str) -> None:
    """Make a key in the token that signs deny lists; print its public half, PEM, for deny_list.key.

    Nothing else signs with it, and no sidecar on the token takes it for its own.
    """
    from sidecar.core.key_label import DENY, KeyLabel, owner_of
    from sidecar.core.schemes import KeyAlgorithm

    label = str(KeyLabel(DENY, owner_of(DENY), 1, "deny list"))
    with opened_token(settings_of(config)) as token:
        key = token.generate(KeyAlgorithm(algorithm), label)
    click.echo(f"made key {key.id}", err=True)
    click.echo(_pem(key.public_key), nl=False)


@deny_list.command("key")
@config_option
@_key_id_option
@one_line_errors
def key_command(config: Path, key_id: str) -> None:
    """Print the public half of a key that signs deny lists, PEM, once more."""
    with opened_token(settings_of(config)) as token:
        click.echo(_pem(_found(token, key_id).public_key), nl=False)


@deny_list.command("sign")
@config_option
@_key_id_option
@click.argument("texts", nargs=-1, metavar="[SPIFFE_ID]...")
@click.option("--from", "file", type=_PATH, help="File with more of them, one a line; # comments.")
@click.option("--nobody", is_flag=True, help="Deny nobody any more; instead of SPIFFE IDs.")
@click.option(
    "--sequence", required=True, type=int, help="Higher than that of any list before, from 1."
)
@click.option(
    "--next-update",
    "lasts",
    required=True,
    metavar="DURATION",
    help='How long until the next list is due, as in "24h".',
)
@one_line_errors
def sign(
    config: Path,
    key_id: str,
    texts: Sequence[str],
    file: Path | None,
    nobody: bool,
    sequence: int,
    lasts: str,
) -> None:
    """Print a deny list of these peers, and of no others, for deny_list.file."""
    from sidecar.app.clock import wall
    from sidecar.core.deny_list import DenyList
    from sidecar.core.token_key import token_private_key
    from sidecar.deny.jws import signed_list, verified

    spiffe_ids = [*_parsed(texts), *(_in_file(file) if file else ())]
    if nobody is bool(spiffe_ids):
        raise click.UsageError("either SPIFFE IDs or --nobody is needed")
    issued_at = wall().replace(microsecond=0)
    made = DenyList(sequence, issued_at, _end(issued_at, lasts), tuple(spiffe_ids))
    # By the rules of whoever reads it, before anything is signed and after.
    DenyList.parse(made.encode())
    with opened_token(settings_of(config)) as token:
        key = _found(token, key_id)
        private = token_private_key(
            key.public_key, lambda scheme, message: token.sign(key.id, scheme, message)
        )
        signed = signed_list(made, private)
    verified(signed.encode(), [key.public_key])
    click.echo(signed)


@deny_list.command("show")
@click.argument("file", type=_PATH)
@click.option(
    "--key", "key_file", required=True, type=_PATH, help="PEM with the keys that may sign it."
)
@json_option
@one_line_errors
def show(file: Path, key_file: Path, as_json: bool) -> None:
    """Check the signature of the deny list in FILE and print the list; exits with 65 if it is none.

    A list that is stale, or an older one than a sidecar has taken, is shown all the same.
    """
    from sidecar import tables
    from sidecar.app.clock import wall
    from sidecar.deny.jws import public_keys, verified

    try:
        keys = public_keys(_read(key_file))
    except DenyListRefused as error:
        raise DenyListRefused(f"{key_file}: {error}") from error
    shown = verified(_read(file), keys)
    tables.show_deny_list(shown, wall(), as_json=as_json)


def _pem(key: PublicKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _found(token: Pkcs11Token, key_id: str) -> TokenKey:
    """A key that may sign deny lists: not one that meshkey made for something else."""
    from sidecar.core.key_label import DENY, KeyLabel
    from sidecar.token.base import Origin

    held = list(token.keys())
    key = next((key for key in held if str(key.id) == key_id.lower()), None)
    if key is None:
        raise NoSuchKey(
            f"no key {printable(key_id)} on token {token.label!r}; "
            "list its keys with: meshkey keys list"
        )
    label = KeyLabel.parse(key.label)
    if label and label.purpose != DENY:
        raise KeyUnsuitable(
            f"key {key.id} was made for {label.purpose!r} and signs no deny list; "
            "make one with: meshkey deny-list make-key"
        )
    if key.origin is Origin.EXPOSED:
        raise KeyUnsuitable(f"key {key.id} could leave the token, so it is not used")
    return key


def _parsed(texts: Sequence[str]) -> Iterator[SpiffeId]:
    from sidecar.core.spiffe import SpiffeId

    for text in texts:
        try:
            yield SpiffeId.parse(text)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="SPIFFE_ID") from None


def _in_file(file: Path) -> Iterator[SpiffeId]:
    from sidecar.core.spiffe import SpiffeId

    for number, line in enumerate(_read(file).splitlines(), 1):
        try:
            text = line.decode().partition("#")[0].strip()
            if text:
                yield SpiffeId.parse(text)
        except ValueError as error:
            raise DenyListRefused(f"{file}:{number}: {error}") from error


def _read(file: Path) -> bytes:
    """What is too long keeps one byte too many, and is refused for it."""
    from sidecar import whole_file
    from sidecar.core.deny_list import MOST_BYTES

    try:
        return whole_file.read(file, MOST_BYTES)
    except OSError as error:
        raise InputMissing(f"{file}: {error.strerror}") from error


def _end(issued_at: datetime, lasts: str) -> datetime:
    from sidecar.config.values import duration

    try:
        length: timedelta = duration(lasts)
        return issued_at + length
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(str(error), param_hint="--next-update") from None
