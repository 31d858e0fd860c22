"""From a file and an environment to `Settings`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, TypeVar

from sidecar.config import references, token
from sidecar.config.authorities import CA_KINDS, CaSettings
from sidecar.config.callers import BearerSettings, CallerSettings
from sidecar.config.deny_list import DenyListSettings
from sidecar.config.identities import GatewaySettings, IdentitySettings
from sidecar.config.settings import (
    SECTIONS,
    AdminSettings,
    AuditSettings,
    IssuerSettings,
    LogSettings,
    MetricsSettings,
    ProcessSettings,
    SdsSettings,
    Settings,
    SignerSettings,
    TokenSettings,
    TrustSettings,
)
from sidecar.config.values import identity_name
from sidecar.errors import ConfigurationError

_S = TypeVar("_S")
_Table = Mapping[str, Any]
_REPEATED = ("ca", "caller", "gateway", "trust")
# What Kubernetes sets in every container beside a Service named, say, meshkey-signer.
_SERVICE_LINK = re.compile(r"_(SERVICE_HOST|(SERVICE_)?PORT(_.+)?)$")


def load(file: Path, environment: Mapping[str, str]) -> Settings:
    """Reads the file at `file`, then applies `MESHKEY_<SECTION>_<SETTING>` overrides.

    Raises:
        ConfigurationError: naming the setting, what is wrong and what is expected.
    """
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"configuration {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"configuration {file}: {error}") from error
    return parse(document, environment)


def parse(document: _Table, environment: Mapping[str, str]) -> Settings:
    """Like `load`, from an already read document."""
    known = [*SECTIONS, *_REPEATED]
    for name in document:
        if name not in known:
            raise ConfigurationError(f"unknown section [{name}]; known: {', '.join(known)}")
    _check_variables(environment)
    raw = {name: _raw(name, document, environment) for name in SECTIONS}
    return references.checked(
        Settings(
            token=_token(raw["token"] or {}, environment),
            identity=_optional(IdentitySettings, "identity", raw),
            gateways=_gateways(document),
            authorities=_authorities(document, environment),
            trust=tuple(_section(TrustSettings, "trust", t) for t in _tables("trust", document)),
            callers=tuple(
                _section(CallerSettings, "caller", t) for t in _tables("caller", document)
            ),
            bearer=_optional(BearerSettings, "bearer", raw),
            signer=_optional(SignerSettings, "signer", raw),
            sds=_optional(SdsSettings, "sds", raw),
            issuer=_optional(IssuerSettings, "issuer", raw),
            admin=_optional(AdminSettings, "admin", raw),
            metrics=_optional(MetricsSettings, "metrics", raw),
            audit=_optional(AuditSettings, "audit", raw),
            process=_section(ProcessSettings, "process", raw["process"] or {}),
            deny_list=_optional(DenyListSettings, "deny_list", raw),
            log=_section(LogSettings, "log", raw["log"] or {}),
        )
    )


def _token(values: _Table, environment: Mapping[str, str]) -> TokenSettings:
    return token.checked(_section(TokenSettings, "token", values), values.keys(), environment)


def _gateways(document: _Table) -> Mapping[str, GatewaySettings]:
    sections = _table("gateway", document.get("gateway", {}))
    for name in sections:
        try:
            identity_name(name)
        except ValueError as error:
            raise ConfigurationError(f"[gateway.{name}]: {error}") from None
    return {
        name: _section(GatewaySettings, f"gateway.{name}", _table(f"gateway.{name}", values))
        for name, values in sections.items()
    }


def _authorities(document: _Table, environment: Mapping[str, str]) -> tuple[CaSettings, ...]:
    overrides = _overrides(_ca_variables(), environment)
    tables = _tables("ca", document)
    if overrides and len(tables) > 1:
        raise ConfigurationError(
            "MESHKEY_CA_* in the environment: which of the several [[ca]] is meant? use the file"
        )
    if overrides:
        tables = [{**(tables[0] if tables else {}), **overrides}]
    return tuple(_authority(values) for values in tables)


def _authority(values: _Table) -> CaSettings:
    kind = values.get("kind", "local")
    if not isinstance(kind, str) or kind not in CA_KINDS:
        raise ConfigurationError(f"ca.kind: one of {', '.join(CA_KINDS)} is needed")
    settings = {key: value for key, value in values.items() if key != "kind"}
    return _section(CA_KINDS[kind], "ca", settings)


def _tables(name: str, document: _Table) -> list[_Table]:
    """One [name], or any number of [[name]]."""
    given = document.get(name, [])
    tables = given if isinstance(given, list) else [given]
    return [_table(name, each) for each in tables]


def _table(name: str, value: Any) -> _Table:
    if not isinstance(value, dict):
        raise ConfigurationError(f"{name} is not a section; write [{name}]")
    return value


def _raw(name: str, document: _Table, environment: Mapping[str, str]) -> dict[str, Any] | None:
    section = document.get(name)
    overrides = _overrides(_variables(name, SECTIONS[name]), environment)
    if section is None and not overrides:
        return None
    return {**_table(name, {} if section is None else section), **overrides}


def _overrides(variables: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    return {key: environment[name] for name, key in variables.items() if name in environment}


def _variables(section: str, kind: type[Any]) -> dict[str, str]:
    return {f"MESHKEY_{section}_{item.name}".upper(): item.name for item in fields(kind)}


def _ca_variables() -> dict[str, str]:
    variables = {"MESHKEY_CA_KIND": "kind"}
    for kind in CA_KINDS.values():
        variables |= _variables("ca", kind)
    return variables


def _check_variables(environment: Mapping[str, str]) -> None:
    known = {name for section, kind in SECTIONS.items() for name in _variables(section, kind)}
    known |= {token.PIN_VARIABLE, *_ca_variables()}
    ours = tuple(f"MESHKEY_{section}_".upper() for section in (*SECTIONS, *_REPEATED))
    for variable in environment:
        is_ours = f"{variable}_".startswith(ours)
        if is_ours and variable not in known and not _SERVICE_LINK.search(variable):
            raise ConfigurationError(f"unknown setting in the environment: {variable}")


def _optional(kind: type[_S], name: str, raw: Mapping[str, dict[str, Any] | None]) -> _S | None:
    values = raw[name]
    return None if values is None else _section(kind, name, values)


def _section(kind: type[_S], name: str, values: _Table) -> _S:
    known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise ConfigurationError(f"unknown setting {name}.{key}; known: {', '.join(known)}")
    given = [item for item in known.values() if _given(name, item, values)]
    return kind(**{item.name: _value(name, item, values) for item in given})


def _given(name: str, item: Field[Any], values: _Table) -> bool:
    if item.name in values:
        return True
    if item.default is MISSING and item.default_factory is MISSING:
        raise ConfigurationError(f"{name}.{item.name} is missing: {item.metadata['help']}")
    return False


def _value(name: str, item: Field[Any], values: _Table) -> Any:
    try:
        return item.metadata["parse"](values[item.name])
    except ValueError as error:
        raise ConfigurationError(f"{name}.{item.name}: {error}") from None
