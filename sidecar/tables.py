"""What the commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sidecar._proto.meshkey.admin.v1 import admin_pb2 as pb
from sidecar.core.deny_list import DenyList
from sidecar.core.printable import printable
from sidecar.core.public_key import algorithm_of
from sidecar.token.base import TokenKey
from sidecar.token.report import SchemeReport, TokenReport

if TYPE_CHECKING:
    from sidecar.doctor.finding import Finding

_WIDEST = 10_000


def show_keys(keys: Sequence[TokenKey], *, as_json: bool) -> None:
    """Prints one row a key."""
    rows = [
        {
            "key_id": str(key.id),
            "label": key.label,
            "algorithm": algorithm.value if (algorithm := algorithm_of(key.public_key)) else "",
            "origin": key.origin.value,
        }
        for key in keys
    ]
    _show(rows, ["key_id", "label", "algorithm", "origin"], as_json=as_json)


def show_live_keys(keys: Sequence[pb.LiveKey], *, as_json: bool) -> None:
    """Prints one row a key of a running process."""
    rows = [
        {
            "key_id": key.key_id.hex(),
            "identity": key.identity,
            "state": key.state,
            "origin": key.origin,
            "generation": key.generation,
            "not_after": _time(key.not_after),
        }
        for key in keys
    ]
    _show(
        rows,
        ["key_id", "identity", "state", "origin", "generation", "not_after"],
        as_json=as_json,
    )


def show_report(report: TokenReport, *, as_json: bool) -> None:
    """Prints what a token said and what its trial keys did."""
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2))
        return
    facts = {name: value for name, value in report.summary().items() if name != "mechanisms"}
    _show([{"token": name, "": _plain(value)} for name, value in facts.items()], ["token", ""])
    click.echo(f" mechanisms: {len(report.mechanisms)}; --json lists them\n")
    _show(
        [
            {
                "algorithm": tried.algorithm,
                "key in ms": _plain(tried.generation_ms),
                "origin": tried.origin if tried.made else "",
                "scheme": scheme.scheme,
                "mechanism": scheme.mechanism or "-",
                "input": scheme.input,
                "ms": _plain(scheme.median_ms),
            }
            for tried in report.algorithms
            for scheme in tried.schemes or [SchemeReport(tried.failure, None, "", None)]
        ],
        ["algorithm", "key in ms", "origin", "scheme", "mechanism", "input", "ms"],
    )


def show_findings(findings: Sequence[Finding], *, as_json: bool) -> None:
    """Prints one row a finding."""
    rows = [
        {"check": finding.check, "verdict": finding.verdict.value, "detail": finding.detail}
        for finding in findings
    ]
    _show(rows, ["check", "verdict", "detail"], as_json=as_json)


def show_problems(rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Prints one row a problem of files: where, how bad, by which rule, what and what to do."""
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    told = [
        {**each, "where": f"{each['file']}:{each['line']}", "finding": _sentence(each)}
        for each in rows
    ]
    _show(told, ["where", "severity", "rule", "finding"])


def _sentence(row: Mapping[str, Any]) -> str:
    return f"{row['happens']}. To do: {row['to_do']}"


def show_deny_list(shown: DenyList, now: datetime, *, as_json: bool) -> None:
    """Prints what a deny list says, and whether it is stale at `now`."""
    denied, stale = [str(each) for each in shown.spiffe_ids], shown.is_stale(now)
    if as_json:
        told = {
            "sequence": shown.sequence,
            "issued_at": shown.issued_at.isoformat(),
            "next_update": shown.next_update.isoformat(),
            "stale": stale,
            "sha256": shown.digest,
            "spiffe_ids": denied,
        }
        click.echo(json.dumps(told, indent=2))
        return
    _show_facts(
        [
            ("sequence", str(shown.sequence)),
            ("issued", f"at {shown.issued_at.isoformat()}"),
            ("next update", f"by {shown.next_update.isoformat()}" + (": stale" if stale else "")),
            ("SHA-256", shown.digest),
            *_listed("denied", denied or ["nobody"]),
        ]
    )


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


def show_status(status: pb.StatusResponse, *, as_json: bool) -> None:
    """Prints the token, the counts and a block for each identity."""
    if as_json:
        click.echo(json.dumps(_status(status), indent=2))
        return
    token, sds = status.token, status.sds
    hung = f", {token.hung} hung {_plural('thread', token.hung)}" if token.hung else ""
    answers = (
        f"{status.signed} signed, {status.refused} refused, {status.told_to_retry} told to retry"
    )
    _show_facts(
        [
            ("token", f"{token.label}, {token.assurance}, {token.signatures} signatures{hung}"),
            ("answers", answers),
            (
                "SDS",
                f"{sds.streams} streams, {sds.acknowledged} acknowledged, {sds.refused} refused",
            ),
        ]
    )
    if status.HasField("deny_list"):
        _show_facts(_deny_facts(status.deny_list))
    for identity in status.identities:
        click.echo()
        _show_facts(_facts(identity))


def _status(status: pb.StatusResponse) -> dict[str, Any]:
    return {
        "token": status.token.label,
        "assurance": status.token.assurance,
        "token_signatures": status.token.signatures,
        "hung": status.token.hung,
        "signed": status.signed,
        "refused": status.refused,
        "told_to_retry": status.told_to_retry,
        "sds": {
            "streams": status.sds.streams,
            "acknowledged": status.sds.acknowledged,
            "refused": status.sds.refused,
        },
        "deny_list": _deny_list(status.deny_list) if status.HasField("deny_list") else None,
        "identities": [_identity(identity) for identity in status.identities],
    }


def _deny_list(status: pb.DenyListStatus) -> dict[str, Any]:
    return {
        "sequence": status.sequence,
        "issued_at": _time(status.issued_at),
        "next_update": _time(status.next_update),
        "entries": status.entries,
        "overdue": status.overdue,
        "error": status.error,
        "refused": status.refused,
    }


def _deny_facts(status: pb.DenyListStatus) -> list[tuple[str, str]]:
    lines = [line for line in (status.overdue, status.error) if line]
    if status.sequence:
        what = f"{status.entries} {_plural('SPIFFE ID', status.entries)}"
        until = f"next update by {_time(status.next_update)}"
        lines.insert(0, f"sequence {status.sequence}, {what}, {until}")
    return _listed("deny list", lines)


def _identity(status: pb.IdentityStatus) -> dict[str, Any]:
    return {
        "name": status.name,
        "spiffe_id": status.spiffe_id,
        "health": status.health,
        "last_error": status.last_error,
        "generation": status.generation,
        "key_id": status.key_id.hex(),
        "key_origin": status.key_origin,
        "token": status.token,
        "serial": status.serial,
        "authority": status.authority,
        "not_before": _time(status.not_before),
        "not_after": _time(status.not_after),
        "next_renewal": _time(status.next_renewal),
        "lease_end": _time(status.lease_end),
        "deprovisioned_at": _time(max(status.deprovisioned_at, 0)),
        "trust": [
            {"trust_domain": each.trust_domain, "roots": each.roots, "error": each.error}
            for each in status.trust
        ],
        "subscribers": [
            {
                "kind": each.kind,
                "resource": each.resource,
                "acked_generation": each.acked_generation,
                "error": each.error,
            }
            for each in status.subscribers
        ],
    }


def _facts(status: pb.IdentityStatus) -> list[tuple[str, str]]:
    """What there is to say of an identity, a line each; lines without a name go on."""
    facts = [("identity", f"{status.name}: {status.health}"), ("SPIFFE ID", status.spiffe_id)]
    if status.deprovisioned_at:
        since = _time(max(status.deprovisioned_at, 0)) or "nobody knows when"
        facts.append(("since", f"{since}; back again with: meshkey reinstate {status.name}"))
    if status.last_error:
        facts.append(("last error", status.last_error))
    if status.key_id:
        facts += [
            ("generation", str(status.generation)),
            ("key", f"{status.key_id.hex()}, {status.key_origin}, on token {status.token}"),
            ("certificate", f"serial {status.serial}, from CA {status.authority}"),
            ("valid", f"from {_time(status.not_before)} to {_time(status.not_after)}"),
            ("renewal", f"at {_time(status.next_renewal)}"),
            ("signs", f"until {_time(status.lease_end)} unless a CA answers before"),
        ]
    trusted = [_trusted(each) for each in status.trust]
    followers = [_follower(each) for each in status.subscribers]
    return facts + _listed("trusts", trusted) + _listed("followed by", followers)


def _trusted(status: pb.TrustStatus) -> str:
    error = f"; {status.error}" if status.error else ""
    return f"{status.trust_domain}: {status.roots} {_plural('root', status.roots)}{error}"


def _follower(status: pb.SubscriberStatus) -> str:
    which = f"{status.kind} {status.resource}".rstrip()
    acknowledged = (
        f"acknowledged generation {status.acked_generation}"
        if status.acked_generation
        else "acknowledged nothing yet"
    )
    return f"{which}: {acknowledged}" + (f"; refused: {status.error}" if status.error else "")


def _listed(name: str, lines: Sequence[str]) -> list[tuple[str, str]]:
    return [(name if number == 0 else "", line) for number, line in enumerate(lines)]


def _plural(word: str, number: int) -> str:
    return word if number == 1 else f"{word}s"


def _show_facts(facts: Sequence[tuple[str, str]]) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=11, no_wrap=True)
    # Long SPIFFE IDs are folded: what is cut off cannot be copied.
    table.add_column(overflow="fold")
    for name, text in facts:
        table.add_row(name, _cell(text))
    Console().print(table)


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds else ""


def _show(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool = False
) -> None:
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table(box=None)
    for column in columns:
        # What is cut off cannot be copied. A key's id is in one piece: other commands take it.
        is_key = column == "key_id"
        table.add_column(column.replace("_", " "), no_wrap=is_key, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row[column]) for column in columns))
    # For another program, as grep(1), a row is a line.
    Console(width=None if sys.stdout.isatty() else _WIDEST).print(table)


def _cell(value: Any) -> Text:
    # Labels and subscribers' errors come from outside: no markup, nothing for the terminal.
    return Text(printable(str(value)))
