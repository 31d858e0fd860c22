"""PINs that everybody knows."""

from __future__ import annotations

_DEFAULT_PINS = frozenset(
    {
        # Typed by whoever is in a hurry, and in most tutorials for SoftHSM2.
        *("1234", "12345", "123456", "1234567", "12345678", "123456789", "1234567890"),
        *("0000", "000000", "00000000", "1111", "111111", "4321", "5678", "654321"),
        *("87654321", "98765432", "pin", "test", "secret", "changeme", "foo123"),
        *("password", "userpin", "user-pin", "user_pin", "mypin", "myuserpin", "mynewpin"),
        # Factory settings: Nitrokey HSM and SmartCard-HSM, JaCarta PKI, YubiHSM 2 (key 1).
        # YubiKey PIV, OpenPGP cards, Rutoken, SafeNet eToken and IDPrime are among the digits.
        *("648219", "11111111", "0001password"),
        # What SDS servers with an SGX token were shipped with.
        "hsmuserpin",
    }
)


def is_default_pin(pin: str) -> bool:
    """Whether `pin` is a factory setting or the PIN of a tutorial, in whatever case."""
    return pin.casefold() in _DEFAULT_PINS
