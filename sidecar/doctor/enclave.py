"""Who signed the enclave of the Crypto API Toolkit, as far as its file says.

Such an enclave's store opens for every enclave of the same signer (MRSIGNER). Where everybody has
the signer's key, everybody can write an enclave that opens the store.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from sidecar.config.settings import TokenSettings
from sidecar.doctor.finding import Finding, Verdict
from sidecar.token.profiles import PROFILES, SGX_CTK, profile_of

# The toolkit loads the one that was installed beside its module (EnclaveHelpers.cpp).
_FILE = "libp11SgxEnclave.signed.so"
_LONGEST_FILE = 256 << 20

# SIGSTRUCT, Intel SDM volume 3D, table 35-19: HEADER, a type, vendor and date, HEADER2.
_SIGSTRUCT = re.compile(
    rb"\x06\0\0\0\xe1\0\0\0\0\0\x01\0.{12}\x01\x01\0\0\x60\0\0\0\x60\0\0\0\x01\0\0\0", re.DOTALL
)
_MODULUS, _MODULUS_SIZE = 128, 384
# ATTRIBUTES and ATTRIBUTEMASK, of which the first eight bytes are flags.
_FLAGS, _FLAGS_MASK = 928, 944
_SIZE = 1808
_DEBUG = 1 << 1

# SHA-256 of the moduli of private keys that are in public repositories.
_PUBLIC_SIGNERS = {
    "cd171c56941c6ce49690b455f691d9c8a04c2e43e0a4d30f752fa5285c7ee57f": "Crypto API Toolkit's",
    "83d719e77deaca1470f6baf62a4d774303c899db69020f9c70ee1dfc08c7ce9e": "the SGX SDK's template's",
}


@dataclass(frozen=True)
class Signed:
    """What the signature of an enclave's file says."""

    signer: str
    # Whether it keeps the enclave from being started for debugging.
    forbids_debugging: bool


def examine_enclave(token: TokenSettings) -> Iterator[Finding]:
    """Nothing for tokens of other kinds. Blocks.

    The file is not what runs: only a quote says what does, and is not asked for here.
    """
    if (PROFILES.get(token.profile) or profile_of(token.module.name)) is not SGX_CTK:
        return
    file = token.module.resolve().with_name(_FILE)
    try:
        signed = read_signature(file)
    except (OSError, ValueError) as error:
        detail = f"its signer cannot be told here: {file}: {error}; ask for a quote of it"
        yield Finding("enclave", Verdict.WARNING, detail)
        return
    said = f"{file}: MRSIGNER {signed.signer}"
    if owner := _PUBLIC_SIGNERS.get(signed.signer):
        yield Finding(
            "enclave",
            Verdict.FAILURE,
            f"{said} is {owner} test key, which everybody has: it protects nothing; sign the "
            "enclave with a key of your own, and make the token anew",
        )
    elif not signed.forbids_debugging:
        yield Finding(
            "enclave",
            Verdict.WARNING,
            f"{said}; it may be started for debugging, and then root reads its memory: sign it "
            "with DisableDebug; only a quote says how it was started",
        )
    else:
        yield Finding("enclave", Verdict.OK, f"{said}; only a quote says whether that one runs")


def read_signature(file: Path) -> Signed:
    """The one signature in an enclave's file.

    Raises:
        OSError: it cannot be read.
        ValueError: it has no signature, or several.
    """
    if file.stat().st_size > _LONGEST_FILE:
        raise ValueError("it is too long for an enclave")
    content = file.read_bytes()
    found = {
        content[match.start() : match.start() + _SIZE] for match in _SIGSTRUCT.finditer(content)
    }
    if len(found) != 1 or len(signature := found.pop()) != _SIZE:
        raise ValueError("it has no signature of an enclave, or several")
    flags, mask = (struct.unpack_from("<Q", signature, at)[0] for at in (_FLAGS, _FLAGS_MASK))
    return Signed(
        sha256(signature[_MODULUS : _MODULUS + _MODULUS_SIZE]).hexdigest(),
        bool(mask & _DEBUG) and not flags & _DEBUG,
    )
