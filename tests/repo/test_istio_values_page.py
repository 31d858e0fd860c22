"""docs/istio-values.md: every value, and no other; and its example."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.errors import ConfigurationError
from sidecar.istio.values_document import parse
from tests.fixtures.istio_values import document

PAGE = (Path(__file__).parents[2] / "docs" / "istio-values.md").read_text(encoding="utf-8")


def _known(name: str, **changes: Any) -> set[str]:
    """What the parser says that it knows, where it finds a value that it does not."""
    with pytest.raises(ConfigurationError, match="surprise: unknown") as raised:
        parse(document(**changes))
    names = str(raised.value).partition("known: ")[2].split(", ")
    return {f"{name}.{each}".lstrip(".") for each in names}


def _every_value() -> set[str]:
    surprise = {"surprise": 1}
    service, gateway = document()["services"][0], document()["gateways"][0]
    port = {**service["ports"][0], **surprise}
    sections: dict[str, dict[str, Any]] = {
        "": surprise,
        "images": {"images": {**document()["images"], **surprise}},
        "istio": {"istio": surprise},
        "ca": {"ca": surprise},
        "namespaces": {"namespaces": [{"name": "demo", **surprise}]},
        "services": {"services": [{**service, **surprise}]},
        "services.ports": {"services": [{**service, "ports": [port]}]},
        "gateways": {"gateways": [{**gateway, **surprise}]},
        "gateways.mutual": {"gateways": [{**gateway, "mutual": [{"port": 1, **surprise}]}]},
    }
    found = {value for name, changes in sections.items() for value in _known(name, **changes)}
    # Said by what is in them.
    return found - {"images", "istio", "ca"}


def test_the_table_has_every_value_and_no_other() -> None:
    assert set(re.findall(r"^\| `([a-z_.]+)` \|", PAGE, re.MULTILINE)) == _every_value()


def test_the_example_is_taken() -> None:
    example = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert example
    assert parse(yaml.safe_load(example[1])).namespaces
