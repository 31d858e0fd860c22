"""The PKCS#11 module that delays, fails or hangs on command, in front of SoftHSM2."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

_SOURCE = Path(__file__).parents[1] / "shim" / "pkcs11_shim.c"
_SOFTHSM2 = "/usr/lib/softhsm/libsofthsm2.so"


@dataclass(frozen=True)
class Shim:
    """`environment` is for the process that loads `module`."""

    module: Path
    rules: Path

    @classmethod
    def build(cls, directory: Path) -> Shim:
        shim = cls(directory / "shim.so", directory / "shim.rules")
        # fmt: off
        subprocess.run(
            ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-cast-function-type",
             "-shared", "-fPIC", "-o", str(shim.module), str(_SOURCE), "-ldl", "-lpthread"],
            check=True,
        )
        # fmt: on
        return shim

    @property
    def environment(self) -> dict[str, str]:
        return {"MESHKEY_SHIM_MODULE": _SOFTHSM2, "MESHKEY_SHIM_CONTROL": str(self.rules)}

    def sessions_environment(self, told: Path) -> dict[str, str]:
        """No rules, so that nothing is slower; each process tells of its sessions at `told`."""
        return {"MESHKEY_SHIM_MODULE": _SOFTHSM2, "MESHKEY_SHIM_SESSIONS": str(told)}

    def most_at_once(self) -> int:
        """How many calls of C_Sign were in the module at once, at most, in the newest process."""
        return int(Path(f"{self.rules}.most").read_text(encoding="ascii"))

    def rule(self, *rules: str) -> None:
        """These rules from now on, instead of those before."""
        unfinished = self.rules.with_suffix(".new")
        unfinished.write_text("".join(f"{rule}\n" for rule in rules), encoding="utf-8")
        unfinished.replace(self.rules)
