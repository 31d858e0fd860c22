"""Who signed an enclave, by its file. No enclave is at hand: its signature's bytes are made up."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from sidecar.config.settings import TokenSettings
from sidecar.doctor.enclave import examine_enclave, read_signature
from sidecar.doctor.finding import Finding, Verdict

# The public half of src/p11/enclave_config/p11Enclave_private.pem in Intel's crypto-api-toolkit,
# in a SIGSTRUCT's order of bytes.
_TOOLKIT = base64.b64decode(
    "n/o/EeWe5onLsp1nEjh1PzC+h6nHKYytznISgFGQpCT3bFgWx6u4C1weMQZBE918iez0R0d/YN4TMPMybCZeVsNh"
    "CH88w2cPrzDioVmZJsfKC9HBc6ZZLlSPS6gVHoZtkS8tQXvCiZI2ODKzKDppnq5YFD1slR5xOLw75YXE3Zger9Th"
    "kTHq61YLxUgyuR2WFyyNqPhMQ3vUKI6x9MHgZOvSw8YSoCtlkvuL161viGR9sUYAe8HqgbV7nt0qz6FT171V8zwf"
    "G2T51vu3JeKXIH9y6EtFa6s6WVn4skNWpyQ5eM3rN48t5P9994Fc5Jc7XK5Xcn5xXV5QtkXRiGFInw8eV2QUug8d"
    "3SubX6zPBLV4f+3iw0slsGFDidV9WwPHKjccUUa9x/nvXOcZxGlGAZwJhXsGHty0sxr39VORaeC5+NEYLHuwDPVs"
    "1Y+7ZWviUNkIxJis7jre5P+8dJyErIRt0Ox7/arl8EBY85/Z9GX1+bEqENeHtYY10o06xbbv"
)
_TOOLKIT_SIGNER = "cd171c56941c6ce49690b455f691d9c8a04c2e43e0a4d30f752fa5285c7ee57f"
_OWN = bytes(range(1, 97)) * 4
_DEBUG = 2


def _sigstruct(modulus: bytes, *, flags: int = 4, mask: int = _DEBUG) -> bytes:
    """As Intel's SDM lays it out."""
    header = (
        bytes.fromhex("06000000e100000000000100")
        + b"\x00\x00\x00\x00"
        + b"\0\0\0\0\x01\x02\x24\x20"
    )
    header += bytes.fromhex("01010000600000006000000001000000")
    attributes = flags.to_bytes(16, "little") + mask.to_bytes(16, "little")
    before = header.ljust(128, b"\0") + modulus + b"\x03\0\0\0" + b"s" * 384
    return (before.ljust(928, b"\0") + attributes).ljust(1808, b"\0")


def _findings(
    directory: Path,
    content: bytes | None,
    module: str = "libp11sgx.so",
    profile: str = "auto",
) -> list[Finding]:
    if content is not None:
        (directory / "libp11SgxEnclave.signed.so").write_bytes(content)
    token = TokenSettings(label="mesh", module=directory / module, profile=profile)
    return list(examine_enclave(token))


def _finding(directory: Path, content: bytes | None) -> Finding:
    (finding,) = _findings(directory, content)
    assert finding.check == "enclave"
    return finding


def test_the_toolkits_own_test_key_protects_nothing(tmp_path: Path) -> None:
    found = _finding(tmp_path, b"\x7fELF" + bytes(5000) + _sigstruct(_TOOLKIT) + bytes(99))
    assert found.verdict is Verdict.FAILURE
    assert f"MRSIGNER {_TOOLKIT_SIGNER} is Crypto API Toolkit's test key" in found.detail


def test_a_signer_of_ones_own_is_told_and_what_a_file_does_not_say(tmp_path: Path) -> None:
    found = _finding(tmp_path, b"\x7fELF" + _sigstruct(_OWN))
    assert found.verdict is Verdict.OK
    assert "only a quote says whether that one runs" in found.detail


@pytest.mark.parametrize(("flags", "mask"), [(4, 0), (4 | _DEBUG, _DEBUG), (4 | _DEBUG, 0)])
def test_an_enclave_that_may_be_debugged_is_warned_of(
    tmp_path: Path, flags: int, mask: int
) -> None:
    found = _finding(tmp_path, _sigstruct(_OWN, flags=flags, mask=mask))
    assert found.verdict is Verdict.WARNING
    assert "root reads its memory" in found.detail


def test_without_the_enclaves_file_it_cannot_be_told(tmp_path: Path) -> None:
    found = _finding(tmp_path, None)
    assert found.verdict is Verdict.WARNING
    assert "its signer cannot be told here" in found.detail
    assert "ask for a quote" in found.detail


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x7fELF" + bytes(4000),
        _sigstruct(_OWN)[:-1],
        _sigstruct(_OWN) + _sigstruct(_TOOLKIT),
    ],
    ids=["empty", "unsigned", "cut off", "two"],
)
def test_what_has_not_one_signature_cannot_be_told(tmp_path: Path, content: bytes) -> None:
    assert "cannot be told here" in _finding(tmp_path, content).detail


def test_the_same_signature_twice_is_one(tmp_path: Path) -> None:
    file = tmp_path / "enclave"
    file.write_bytes(_sigstruct(_TOOLKIT) * 2)
    assert read_signature(file).signer == _TOOLKIT_SIGNER


def test_a_module_that_is_a_link_is_followed_to_its_enclave(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libp11sgx.so.0").touch()
    (tmp_path / "libp11sgx.so").symlink_to("lib/libp11sgx.so.0")
    (tmp_path / "lib" / "libp11SgxEnclave.signed.so").write_bytes(_sigstruct(_TOOLKIT))
    assert _finding(tmp_path, None).verdict is Verdict.FAILURE


def test_other_tokens_have_no_enclave(tmp_path: Path) -> None:
    assert not _findings(tmp_path, _sigstruct(_TOOLKIT), module="libsofthsm2.so")
    assert _findings(tmp_path, _sigstruct(_TOOLKIT), module="x.so", profile="sgx-ctk")
