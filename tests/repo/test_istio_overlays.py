"""istio-overlays: what is committed is what the values there make."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sidecar import __version__
from sidecar.istio.generate import files
from sidecar.istio.values import Token
from sidecar.istio.values_file import read
from sidecar.istio.written import written

OVERLAYS = Path(__file__).parents[2] / "istio-overlays"
VARIANTS = sorted(file.stem for file in (OVERLAYS / "values").iterdir())


def _files(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): path.read_text(encoding="utf-8")
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_values_make_exactly_the_files_that_are_there(variant: str, tmp_path: Path) -> None:
    values = read(OVERLAYS / "values" / f"{variant}.yaml")
    list(written(files(values), tmp_path))
    assert _files(tmp_path) == _files(OVERLAYS / variant)


def test_there_is_one_for_each_token_and_none_without_values() -> None:
    assert {str(token) for token in Token} <= set(VARIANTS)
    directories = {path.name for path in OVERLAYS.iterdir() if path.is_dir()}
    assert directories == {*VARIANTS, "values", "example", "demo"}
    for token in Token:
        assert read(OVERLAYS / "values" / f"{token}.yaml").token is token


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_image_has_this_version(variant: str) -> None:
    values = read(OVERLAYS / "values" / f"{variant}.yaml")
    assert values.images.meshkey.rpartition(":")[2] == __version__


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_file_of_yaml_is_yaml(variant: str) -> None:
    files = sorted((OVERLAYS / variant).rglob("*.yaml"))
    assert files
    for file in files:
        assert all(yaml.safe_load_all(file.read_text(encoding="utf-8"))), file
