"""`meshkey audit`: who checks an audit log needs its public key and no token."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sidecar.command_options import config_option, json_option, opened_token, settings_of
from sidecar.errors import AuditUnreadable, InputMissing, NoSuchKey
from sidecar.exits import EXIT_BAD_INPUT, one_line_errors

if TYPE_CHECKING:
    from sidecar.audit.verify import Report
    from sidecar.core.public_key import PublicKey

_PATH = click.Path(path_type=Path)


@click.group()
def audit() -> None:
    """Check an audit log, and get the key to check it with."""


@audit.command("key")
@config_option
@one_line_errors
def key_command(config: Path) -> None:
    """Print the public key, PEM, that the log's seals are signed with. Keep it elsewhere."""
    from sidecar.app.audit import audit_owner, pem_of
    from sidecar.audit.sealing import find_audit_key

    settings = settings_of(config)
    owner = audit_owner(settings)
    with opened_token(settings) as token:
        key = find_audit_key(token, owner)
    if key is None:
        raise NoSuchKey("there is no audit key yet: the first start of meshkey serve makes it")
    click.echo(pem_of(key.public_key), nl=False)


@audit.command("verify")
@click.argument("paths", nargs=-1, required=True, type=_PATH, metavar="PATH...")
@click.option(
    "--audit-key",
    "key_files",
    required=True,
    multiple=True,
    type=_PATH,
    help="PEM from `meshkey audit key`; several, if the log outlived its key.",
)
@click.option("--anchor", type=_PATH, help="File with seals that was kept elsewhere.")
@json_option
@one_line_errors
def verify_command(
    paths: Sequence[Path], key_files: Sequence[Path], anchor: Path | None, as_json: bool
) -> None:
    """Check files of one audit log, or directories of them; exits with 65 at a bad record."""
    from sidecar.audit.verify import verify

    report = verify(paths, _keys(key_files), anchor)
    if as_json:
        click.echo(json.dumps(_json(report), indent=2))
    else:
        click.echo("\n".join(_text(report)))
    if report.finding:
        sys.exit(EXIT_BAD_INPUT)


def _keys(files: Sequence[Path]) -> Mapping[str, PublicKey]:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    from sidecar.audit.seal import key_hash, seal_scheme
    from sidecar.core.unreadable import UNREADABLE

    keys: dict[str, PublicKey] = {}
    for file in files:
        try:
            key: Any = load_pem_public_key(file.read_bytes())
            seal_scheme(key)
        except OSError as error:
            raise InputMissing(f"{file}: {error.strerror}") from error
        except UNREADABLE as error:
            raise AuditUnreadable(f"{file}: that is no public key of an audit log") from error
        keys[key_hash(key)] = key
    return keys


def _text(report: Report) -> list[str]:
    lines = [f"records: {report.records}, seals: {report.seals}, files: {report.files}"]
    if report.first > 1:
        lines.append(f"these files begin with record {report.first}: those before are not checked")
    lines += [
        f"{torn.file}:{torn.line}: cut off, and a later record says so" for torn in report.torn
    ]
    if bad := report.finding:
        return [*lines, f"{bad.file}:{bad.line}: record {bad.seq} {bad.kind.value}: {bad.detail}"]
    return [*lines, f"proven: records {report.first} to {report.proven}", _tail(report)]


def _tail(report: Report) -> str:
    if not report.anchored:
        return (
            f"tail not proven: records after {report.last} may have been cut off; "
            "give a seal from elsewhere with --anchor"
        )
    rest = report.last - report.proven
    return f"tail proven up to the anchor's last seal; {rest} records came after it"


def _json(report: Report) -> dict[str, Any]:
    bad = report.finding
    return {
        "files": report.files,
        "records": report.records,
        "first": report.first,
        "last": report.last,
        "seals": report.seals,
        "proven": report.proven,
        "tail_proven": report.anchored,
        "cut_off": [{"file": torn.file, "line": torn.line} for torn in report.torn],
        "bad_record": bad
        and {
            "kind": bad.kind.value,
            "file": bad.file,
            "line": bad.line,
            "seq": bad.seq,
            "detail": bad.detail,
        },
    }
