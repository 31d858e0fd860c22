"""Directories that hold what only we may write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sidecar.errors import ConfigurationError
from sidecar.private_directory import require_private


def test_one_that_cannot_be_made_comes_with_the_command_that_makes_it(tmp_path: Path) -> None:
    directory = tmp_path / "log" / "web"
    with pytest.raises(ConfigurationError) as refused:
        require_private(directory, "audit.directory")
    assert str(refused.value) == (
        f"audit.directory {directory}: No such file or directory; make it as root: "
        f"install -d -o {os.geteuid()} -m 0700 {directory}"
    )
