"""The values from a command line: what a small mesh has to say in one line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidecar.istio.table import mistake

_NAMESPACE = re.compile(r"(?P<name>[^:]+)(:(?P<mtls>.+))?")
_SERVICE = re.compile(r"(?P<host>[^:=]+):(?P<port>\d{1,5})(/(?P<protocol>[^=]+))?=(?P<peers>.+)")
_SERVICE_FORM = "HOST:PORT[/PROTOCOL]=NAMESPACE/ACCOUNT[,...]"
_GATEWAY = re.compile(r"(?P<namespace>[^/:]+)/(?P<name>[^/:]+):(?P<key>[^=]+)=(?P<value>.+)")


@dataclass(frozen=True)
class Flags:
    """As they were given; what was not is empty."""

    trust_domain: str | None = None
    token: str | None = None
    ca: str | None = None
    image: str | None = None
    proxy_image: str | None = None
    namespaces: Sequence[str] = ()
    services: Sequence[str] = ()
    gateways: Sequence[str] = ()
    policies: Sequence[Path] = ()


def with_flags(document: Mapping[str, Any], flags: Flags) -> Mapping[str, Any]:
    """The document with what the flags say: single values replaced, lists added to.

    What the document says of a namespace, host or gateway that a flag names is replaced whole.

    Raises:
        ConfigurationError: a flag is not written as it has to be.
    """
    images = _given({"meshkey": flags.image, "proxy": flags.proxy_image})
    single = {
        "trust_domain": flags.trust_domain,
        "token": flags.token,
        "ca": _ca(flags.ca) if flags.ca else None,
        "images": {**_mapping(document, "images"), **_given(images)}
        if any(images.values())
        else None,
    }
    lists = {
        "namespaces": _replaced(document, "namespaces", _namespaces(flags.namespaces), ("name",)),
        "services": _replaced(document, "services", _services(flags.services), ("host",)),
        "gateways": _replaced(
            document, "gateways", _gateways(flags.gateways), ("namespace", "name")
        ),
        "policies": [*_listed(document, "policies"), *map(str, flags.policies)],
    }
    return {**document, **_given(single), **_given(lists)}


def _ca(flag: str) -> Mapping[str, str]:
    kind, equals, signer = flag.partition("=")
    return {"kind": kind, **({"signer": signer} if equals else {})}


def _namespaces(flags: Iterable[str]) -> list[Mapping[str, Any]]:
    found = [_matched("--namespace", _NAMESPACE, "NAME[:permissive]", flag) for flag in flags]
    return [_given(each) for each in found]


def _services(flags: Iterable[str]) -> list[Mapping[str, Any]]:
    """One for each host; a flag for each of its ports."""
    services: dict[str, Mapping[str, Any]] = {}
    for flag in flags:
        found = _matched(
            "--service", _SERVICE, "HOST:PORT[/PROTOCOL]=NAMESPACE/ACCOUNT[,...]", flag
        )
        host, peers = found["host"], found["peers"].split(",")
        known = services.get(host, {"ports": [], "service_accounts": []})
        port = _given({"number": int(found["port"]), "protocol": found["protocol"]})
        services[host] = {
            "host": host,
            "ports": [*(each for each in known["ports"] if each != port), port],
            "service_accounts": list(dict.fromkeys([*known["service_accounts"], *peers])),
        }
    return list(services.values())


def _gateways(flags: Iterable[str]) -> list[Mapping[str, Any]]:
    """One for each name; a flag for each of its labels."""
    gateways: dict[tuple[str, str], dict[str, Any]] = {}
    for flag in flags:
        found = _matched("--gateway", _GATEWAY, "NAMESPACE/NAME:KEY=VALUE", flag)
        new = {"name": found["name"], "namespace": found["namespace"], "labels": {}}
        known = gateways.setdefault((found["namespace"], found["name"]), new)
        known["labels"][found["key"]] = found["value"]
    return list(gateways.values())


def _matched(option: str, pattern: re.Pattern[str], form: str, flag: str) -> dict[str, str]:
    if not (found := pattern.fullmatch(flag)):
        raise mistake(option, f"{flag!r}: write it as {form}")
    return found.groupdict()


def _replaced(
    document: Mapping[str, Any], name: str, new: Sequence[Mapping[str, Any]], keys: Sequence[str]
) -> list[Any]:
    def key(each: Any) -> tuple[Any, ...]:
        return tuple(each.get(key) for key in keys) if isinstance(each, dict) else ()

    named = {key(each) for each in new}
    return [*(each for each in _listed(document, name) if key(each) not in named), *new]


def _given(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if value}


def _listed(document: Mapping[str, Any], name: str) -> list[Any]:
    value = document.get(name, [])
    if not isinstance(value, list):
        raise mistake(f"values.{name}", "a list is needed")
    return value


def _mapping(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = document.get(name, {})
    if not isinstance(value, dict):
        raise mistake(f"values.{name}", "a mapping is needed")
    return value
