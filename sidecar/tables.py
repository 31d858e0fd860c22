"""What the commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sidecar._proto.meshkey.admin.v1 import admin_pb2 as pb
from sidecar.core.public_key import algorithm_of
from sidecar.token.base import TokenKey
from sidecar.token.report import SchemeReport, TokenReport

if TYPE_CHECKING:
    from sidecar.doctor import Finding


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


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


def show_status(status: pb.StatusResponse, *, as_json: bool) -> None:
    """Prints the token, the counts and one row an identity."""
    identities = [_identity(identity) for identity in status.identities]
    summary = {
        "token": status.token.label,
        "assurance": status.token.assurance,
        "token_signatures": status.token.signatures,
        "hung": status.token.hung,
        "signed": status.signed,
        "refused": status.refused,
        "told_to_retry": status.told_to_retry,
    }
    if as_json:
        click.echo(json.dumps({**summary, "identities": identities}, indent=2))
        return
    _show([summary], list(summary), as_json=False)
    columns = [
        "name",
        "spiffe_id",
        "generation",
        "key_id",
        "key_origin",
        "not_after",
        "next_renewal",
    ]
    _show(identities, [*columns, "subscribers", "last_error"], as_json=False)


def _identity(status: pb.IdentityStatus) -> dict[str, Any]:
    return {
        "name": status.name,
        "spiffe_id": status.spiffe_id,
        "generation": status.generation,
        "key_id": status.key_id.hex(),
        "key_origin": status.key_origin,
        "serial": status.serial,
        "not_before": _time(status.not_before),
        "not_after": _time(status.not_after),
        "next_renewal": _time(status.next_renewal),
        "last_error": status.last_error,
        "subscribers": [
            {
                "acked_generation": s.acked_generation,
                "error": s.error,
                "kind": s.kind,
                "resource": s.resource,
            }
            for s in status.subscribers
        ],
    }


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds else ""


def _show(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool = False
) -> None:
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table(*(column.replace("_", " ") for column in columns), box=None)
    for row in rows:
        table.add_row(*(_cell(row[column]) for column in columns))
    Console().print(table)


def _cell(value: Any) -> Text:
    if isinstance(value, list):
        value = ", ".join(map(_subscriber, value))
    # Labels and subscribers' errors come from outside: no markup, nothing for the terminal.
    return Text("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value)))


def _subscriber(status: Mapping[str, Any]) -> str:
    parts = (status["acked_generation"], status["resource"], status["error"])
    return " ".join(str(part) for part in parts if part != "")
