"""Vendor differences, as data. There is no code for one vendor anywhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pkcs11 import Attribute

from sidecar.token.base import Assurance

_Template = Mapping[Attribute, bool | None]


@dataclass(frozen=True)
class TokenProfile:
    """How one kind of token wants to be used.

    `modules` are file names by which a module is recognised. `assurance` of `None` is
    decided by what the token says: hardware where its mechanisms carry CKF_HW.
    """

    name: str
    assurance: Assurance | None
    modules: tuple[str, ...] = ()
    # Beyond what every key of ours has; a value of None leaves the attribute out.
    public_template: _Template = field(default_factory=dict)
    private_template: _Template = field(default_factory=dict)
    # The most threads that it serves at once; None: as many as it has sessions.
    concurrency: int | None = None
    # The longest CKA_LABEL, in bytes.
    longest_label: int = 255
    # What its documentation says a PIN looks like, for the message about a refused one.
    pin_hint: str = ""


SOFTHSM2 = TokenProfile("softhsm2", Assurance.SOFTWARE, modules=("libsofthsm2.so",))
TPM2 = TokenProfile(
    "tpm2",
    None,
    modules=("libtpm2_pkcs11.so", "libtpm2_pkcs11.so.1"),
    # It compares templates with what a TPM key is, and refuses wishes that differ.
    public_template={Attribute.VERIFY: False, Attribute.ENCRYPT: True, Attribute.WRAP: None},
    private_template={Attribute.DECRYPT: None, Attribute.DERIVE: None, Attribute.UNWRAP: None},
)
P11_KIT = TokenProfile("p11-kit", Assurance.SOFTWARE, modules=("p11-kit-client.so",))
SGX_CTK = TokenProfile(
    "sgx-ctk",
    Assurance.HARDWARE,
    modules=("libp11sgx.so", "libp11SgxEnclave.signed.so"),
    # Stock builds have one trusted control structure: one thread at a time.
    concurrency=1,
)
KRYOPTIC = TokenProfile("kryoptic", Assurance.SOFTWARE, modules=("libkryoptic_pkcs11.so",))
YUBIHSM2 = TokenProfile(
    "yubihsm2",
    Assurance.HARDWARE,
    modules=("yubihsm_pkcs11.so",),
    private_template={Attribute.PRIVATE: True},
    # It has 16 sessions; one is the login's.
    concurrency=15,
    longest_label=40,
    pin_hint="four hexadecimal digits of the authentication key's id, then its password",
)
AWS_CLOUDHSM = TokenProfile(
    "aws-cloudhsm",
    Assurance.HARDWARE,
    modules=("libcloudhsm_pkcs11.so",),
    longest_label=127,
    pin_hint="<user>:<password> of a crypto user",
)
GENERIC = TokenProfile("generic", None)

PROFILES: Mapping[str, TokenProfile] = {
    profile.name: profile
    for profile in (
        SOFTHSM2,
        TPM2,
        P11_KIT,
        SGX_CTK,
        KRYOPTIC,
        YUBIHSM2,
        AWS_CLOUDHSM,
        GENERIC,
    )
}


def profile_of(module_name: str) -> TokenProfile:
    """The profile for a module's file name; the generic one for an unknown module."""
    for profile in PROFILES.values():
        if module_name in profile.modules:
            return profile
    return GENERIC
