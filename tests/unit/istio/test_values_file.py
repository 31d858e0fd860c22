"""Values in a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sidecar.errors import ConfigurationError
from sidecar.istio.values_file import read
from tests.fixtures.istio_values import document


def test_policies_are_beside_the_file(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(document(policies=["policies/demo.yaml", "/etc/other.yaml"])))
    assert read(file).policies == (tmp_path / "policies" / "demo.yaml", Path("/etc/other.yaml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", r"values .*/values.yaml: .*line 1"),
        ("\x00", r"values .*/values.yaml: "),
        ("- a", r"values .*/values.yaml: a mapping is needed"),
        ("token: softhsm2\ntoken: tpm2\n", r"a key is there twice .*line 1"),
        ("images: !!python/object:os.system {}\n", r"values .*/values.yaml: could not determine"),
    ],
)
def test_what_cannot_be_read_is_said_with_the_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "values.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        read(tmp_path / "values.yaml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"values .*/none.yaml: No such file"):
        read(tmp_path / "none.yaml")
