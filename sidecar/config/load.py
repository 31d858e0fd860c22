"""From a file and an environment to `Settings`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, TypeVar

from sidecar.config import token
from sidecar.config.settings import (
    SECTIONS,
    AdminSettings,
    CaSettings,
    IdentitySettings,
    IssuerSettings,
    LogSettings,
    MetricsSettings,
    Settings,
    SignerSettings,
    TokenSettings,
)
from sidecar.errors import ConfigurationError

_S = TypeVar("_S")
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


def parse(document: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
    """Like `load`, from an already read document."""
    for name in document:
        if name not in SECTIONS:
            raise ConfigurationError(f"unknown section [{name}]; known: {', '.join(SECTIONS)}")
    _check_variables(environment)
    raw = {name: _raw(name, document, environment) for name in SECTIONS}
    return Settings(
        token=_token(raw["token"] or {}, environment),
        identity=_optional(IdentitySettings, "identity", raw),
        ca=_optional(CaSettings, "ca", raw),
        signer=_optional(SignerSettings, "signer", raw),
        issuer=_optional(IssuerSettings, "issuer", raw),
        admin=_optional(AdminSettings, "admin", raw),
        metrics=_optional(MetricsSettings, "metrics", raw),
        log=_section(LogSettings, "log", raw["log"] or {}),
    )


def _token(values: Mapping[str, Any], environment: Mapping[str, str]) -> TokenSettings:
    return token.checked(_section(TokenSettings, "token", values), values.keys(), environment)


def _raw(
    name: str, document: Mapping[str, Any], environment: Mapping[str, str]
) -> dict[str, Any] | None:
    section = document.get(name)
    if section is not None and not isinstance(section, dict):
        raise ConfigurationError(f"{name} is not a section; write [{name}]")
    overrides = {
        key: environment[variable]
        for variable, key in _variables(name).items()
        if variable in environment
    }
    return None if section is None and not overrides else {**(section or {}), **overrides}


def _variables(section: str) -> dict[str, str]:
    return {
        f"MESHKEY_{section}_{item.name}".upper(): item.name for item in fields(SECTIONS[section])
    }


def _check_variables(environment: Mapping[str, str]) -> None:
    known = {variable for section in SECTIONS for variable in _variables(section)}
    known.add(token.PIN_VARIABLE)
    for variable in environment:
        section = variable.removeprefix("MESHKEY_").partition("_")[0].lower()
        ours = variable.startswith("MESHKEY_") and section in SECTIONS
        if ours and variable not in known and not _SERVICE_LINK.search(variable):
            raise ConfigurationError(f"unknown setting in the environment: {variable}")


def _optional(kind: type[_S], name: str, raw: Mapping[str, dict[str, Any] | None]) -> _S | None:
    values = raw[name]
    return None if values is None else _section(kind, name, values)


def _section(kind: type[_S], name: str, values: Mapping[str, Any]) -> _S:
    known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise ConfigurationError(f"unknown setting {name}.{key}; known: {', '.join(known)}")
    given = [item for item in known.values() if _given(name, item, values)]
    return kind(**{item.name: _value(name, item, values) for item in given})


def _given(name: str, item: Field[Any], values: Mapping[str, Any]) -> bool:
    if item.name in values:
        return True
    if item.default is MISSING:
        raise ConfigurationError(f"{name}.{item.name} is missing: {item.metadata['help']}")
    return False


def _value(name: str, item: Field[Any], values: Mapping[str, Any]) -> Any:
    try:
        return item.metadata["parse"](values[item.name])
    except ValueError as error:
        raise ConfigurationError(f"{name}.{item.name}: {error}") from None
