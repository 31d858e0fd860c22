"""What goes wrong with a token, as a user sees it: one line that says what next, and a code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sidecar.demo.softhsm import SoftHsmStore
from tests.e2e.shim import Shim
from tests.fixtures.private_keys import pkcs8, some_key, write_key
from tests.fixtures.process import run_cli

_LIST = ("keys", "list")


@dataclass
class Bench:
    """A configuration of the CLI; `rules` are for the module, if it is the shim."""

    directory: Path
    store: SoftHsmStore
    label: str = "mesh"
    module: Path = Path("/usr/lib/softhsm/libsofthsm2.so")
    rules: str = ""

    def run(self, *arguments: object) -> tuple[int, str]:
        """Returns the exit code and the one line."""
        environment = self.store.environment
        if self.rules:
            shim = Shim.build(self.directory)
            shim.rule(*self.rules.split(", "))
            self.module = shim.module
            environment = {**environment, **shim.environment}
        config = self.directory / "meshkey.toml"
        config.write_text(
            f'[token]\nlabel = "{self.label}"\nmodule = "{self.module}"\n'
            f'pin_file = "{self.pin_file}"\n',
            encoding="utf-8",
        )
        done = run_cli(*map(str, arguments), "--config", str(config), environment=environment)
        assert not done.stdout
        (line,) = done.stderr.splitlines()
        assert line.startswith("meshkey: ")
        return done.returncode, line

    @property
    def pin_file(self) -> Path:
        return self.store.directory / "mesh.pin"

    @property
    def key_file(self) -> Path:
        return write_key(self.directory / "key.pem", some_key())

    def file(self, name: str, content: bytes) -> Path:
        file = self.directory / name
        file.write_bytes(content)
        file.chmod(0o600)
        return file


@pytest.fixture
def bench(short_dir: Path, softhsm: SoftHsmStore) -> Bench:
    return Bench(short_dir, softhsm)


def _no_module(bench: Bench) -> tuple[object, ...]:
    bench.module = bench.directory / "gone.so"
    return _LIST


def _no_library(bench: Bench) -> tuple[object, ...]:
    bench.module = bench.file("text.so", b"no library")
    return _LIST


def _no_pkcs11(bench: Bench) -> tuple[object, ...]:
    (bench.module,) = Path("/lib").glob("*/libdl.so.2")
    return _LIST


def _no_token(bench: Bench) -> tuple[object, ...]:
    bench.label = "other"
    return _LIST


def _wrong_pin(bench: Bench) -> tuple[object, ...]:
    bench.pin_file.chmod(0o600)
    bench.pin_file.write_bytes(b"zq7x-wrong")
    return _LIST


def _locked_pin(bench: Bench) -> tuple[object, ...]:
    bench.rules = "C_Login fail 0xA4"
    return _LIST


def _no_key(_bench: Bench) -> tuple[object, ...]:
    return "keys", "export-csr", "0a1f", "--dns", "a.example"


def _no_key_to_destroy(_bench: Bench) -> tuple[object, ...]:
    return "keys", "destroy", "--yes", "0a1f"


def _no_mechanism(bench: Bench) -> tuple[object, ...]:
    bench.rules = "C_UnwrapKey fail 0x54, C_CreateObject fail 0x54"
    return "keys", "import", bench.key_file, "--label", "in"


def _no_signature(bench: Bench) -> tuple[object, ...]:
    bench.rules = "C_SignInit fail 0x70"
    return "keys", "import", bench.key_file, "--label", "in"


def _no_file(bench: Bench) -> tuple[object, ...]:
    return "keys", "import", bench.directory / "gone.pem", "--label", "in"


def _garbage(bench: Bench) -> tuple[object, ...]:
    return "keys", "import", bench.file("key.pem", b"garbage"), "--label", "in"


def _closed_key(bench: Bench) -> tuple[object, ...]:
    file = bench.file("key.pem", pkcs8(some_key(), b"correct"))
    return "keys", "import", file, "--label", "in"


def _wrong_passphrase(bench: Bench) -> tuple[object, ...]:
    secret = bench.file("passphrase", b"zq7x-wrong")
    return (*_closed_key(bench), "--passphrase-file", secret)


@pytest.mark.parametrize(
    ("broken", "code", "what", "way_out"),
    [
        (_no_module, 64, "gone.so does not exist", "set token.module"),
        (_no_library, 64, "text.so cannot be loaded", "set token.module"),
        (_no_pkcs11, 64, "libdl.so.2 is not a PKCS#11 module", "set token.module"),
        (_no_token, 69, "has 0 tokens labelled 'other'", "it has: mesh; set token.label"),
        (_wrong_pin, 77, "refused the PIN from token.pin_file", "put the right one there"),
        (_locked_pin, 77, "the PIN of token 'mesh' is locked", "security officer can set a new"),
        (_no_key, 66, "no key 0a1f on token 'mesh'", "list its keys with: meshkey keys list"),
        (_no_key_to_destroy, 66, "no key 0a1f on token 'mesh'", "meshkey keys list"),
        (_no_mechanism, 78, "FunctionNotSupported", "use another kind of key, or another token"),
        (_no_signature, 78, "signs with no scheme of ec-p256", "meshkey token probe"),
        (_no_file, 66, "gone.pem: No such file", "name the file"),
        (_garbage, 65, "that is no private key", "PKCS#8 is needed"),
        (_closed_key, 65, "the private key is encrypted", "--passphrase-file names its file"),
        (_wrong_passphrase, 65, "cannot be decrypted", "the passphrase is wrong"),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_an_error_is_one_line_with_a_way_out(
    bench: Bench,
    broken: Callable[[Bench], tuple[object, ...]],
    code: int,
    what: str,
    way_out: str,
) -> None:
    returned, line = bench.run(*broken(bench))
    assert returned == code, line
    assert what in line
    assert way_out in line
    assert "zq7x" not in line
