from __future__ import annotations

from pathlib import Path

from sidecar import exits
from sidecar.exits import EXIT_CODES

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_lists_every_exit_code() -> None:
    rows = [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()]
    table = "\n".join(["| exit code | |", "|---|---|", *rows])
    assert f"{table}\n\n" in README.read_text(encoding="utf-8")


def test_every_exit_code_is_in_the_table() -> None:
    codes = {v for k, v in vars(exits).items() if k.startswith("EXIT_") and isinstance(v, int)}
    assert codes | {0, 1, 2} == EXIT_CODES.keys()
    assert {code for _, code in exits._CODES} <= codes
