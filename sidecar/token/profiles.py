"""Vendor differences, as data. There is no code for one vendor anywhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pkcs11 import Attribute, Mechanism

from sidecar.token.base import Assurance

_Template = Mapping[Attribute, bool | None]


@dataclass(frozen=True)
class TokenProfile:
    """How one kind of token wants to be used.

    `modules` are file names by which a module is recognised. `assurance` of `None` is
    decided by what the token says: by its model, and where that is not known by CKF_HW on
    the mechanisms that make keys.
    """

    name: str
    assurance: Assurance | None
    modules: tuple[str, ...] = ()
    # Beyond what every key of ours has; a value of None leaves the attribute out.
    public_template: _Template = field(default_factory=dict)
    private_template: _Template = field(default_factory=dict)
    # Off where whatever answers need not be what the module was made for.
    trusts_hardware_flag: bool = True
    # Listed, and not to be had for keys like ours.
    unusable: frozenset[Mechanism] = frozenset()
    # Off where they are not to be relied on; otherwise they are tried.
    session_objects: bool = True
    # Gives new objects the handles of others after an object was destroyed, until its next start.
    mixes_up_handles: bool = False
    # The most threads that it serves at once; None: as many as it has sessions.
    concurrency: int | None = None
    # The longest CKA_LABEL, in bytes.
    longest_label: int = 255
    # What its documentation says a PIN looks like, for the message about a refused one.
    pin_hint: str = ""


# CK_TOKEN_INFO's model, its spaces made single. A TPM gives its vendor's string there.
_MODELS: Mapping[str, Assurance] = {
    "SoftHSM v2": Assurance.SOFTWARE,
    # libtpms, which is in swtpm and so in most virtual machines' TPMs.
    "SW TPM": Assurance.SOFTWARE,
    # Microsoft's reference implementation: its simulator, and Hyper-V's virtual TPM.
    "xCG fTPM": Assurance.SOFTWARE,
    "YubiHSM": Assurance.HARDWARE,
}

SOFTHSM2 = TokenProfile("softhsm2", Assurance.SOFTWARE, modules=("libsofthsm2.so",))
TPM2 = TokenProfile(
    "tpm2",
    None,
    modules=("libtpm2_pkcs11.so", "libtpm2_pkcs11.so.1"),
    # It maps attributes to those of a TPM's key, VERIFY to `decrypt` and ENCRYPT to `sign`, and
    # fails when the halves of a pair do not wish the same.
    public_template={Attribute.VERIFY: False, Attribute.ENCRYPT: True},
    # Made by decrypting, for which our keys are not, with anything but the TPM's own padding.
    unusable=frozenset({Mechanism.RSA_PKCS}),
    # token_add_tobject (up to 1.10.1 at least) counts from 2 even when the first object is gone.
    mixes_up_handles=True,
    # A TPM does one thing at a time; more threads than this only wait in it.
    concurrency=4,
    session_objects=False,
)
P11_KIT = TokenProfile(
    "p11-kit",
    None,
    modules=("p11-kit-client.so",),
    trusts_hardware_flag=False,
    # One connection, whose other end does one thing at a time.
    concurrency=4,
)
# From here on: from documentation and source, not run.
SGX_CTK = TokenProfile(
    "sgx-ctk",
    Assurance.HARDWARE,
    modules=("libp11sgx.so",),
    # Stock builds have one trusted control structure: one thread at a time.
    concurrency=1,
)
KRYOPTIC = TokenProfile("kryoptic", Assurance.SOFTWARE, modules=("libkryoptic_pkcs11.so",))
YUBIHSM2 = TokenProfile(
    "yubihsm2",
    Assurance.HARDWARE,
    modules=("yubihsm_pkcs11.so",),
    # All sessions of a process share one of the device's 16 and wait for each other.
    concurrency=2,
    # What the device itself holds; for more the module keeps objects of its own beside the key.
    longest_label=40,
    pin_hint="four hexadecimal digits of the authentication key's id, then its password",
)
AWS_CLOUDHSM = TokenProfile(
    "aws-cloudhsm",
    Assurance.HARDWARE,
    modules=("libcloudhsm_pkcs11.so",),
    # No limit is documented: on the safe side.
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


def assurance_of(profile: TokenProfile, model: str, *, hardware_flag: bool) -> Assurance:
    """What a token is worth whose model is `model`; `hardware_flag`: it says CKF_HW."""
    if profile.assurance is not None:
        return profile.assurance
    if known := _MODELS.get(" ".join(model.split())):
        return known
    trusted = hardware_flag and profile.trusts_hardware_flag
    return Assurance.HARDWARE if trusted else Assurance.SOFTWARE


def profile_of(module_name: str) -> TokenProfile:
    """The profile for a module's file name; the generic one for an unknown module."""
    for profile in PROFILES.values():
        if module_name in profile.modules:
            return profile
    return GENERIC
