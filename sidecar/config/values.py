"""Parsers of single values: each raises `ValueError` saying what is expected."""

from __future__ import annotations

import grp
import math
import pwd
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sidecar.core.certificate_verify import Side
from sidecar.core.purpose import PURPOSE_NAMES, SigningPurpose
from sidecar.core.schemes import KeyAlgorithm

# sun_path has 108 bytes, the last one a zero.
_LONGEST_SOCKET_PATH = 107
_LAST_PORT = 65535
# The highest is nobody: chown(2) takes it for "as it is".
_LAST_USER = 2**32 - 2
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_POD_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_SIZES = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def text(value: Any) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ValueError("a text is needed")
    return value


def path(value: Any) -> Path:
    """An absolute path; whether anything is there is not asked."""
    parsed = Path(text(value))
    if not parsed.is_absolute() or "\0" in str(parsed):
        raise ValueError("an absolute path is needed")
    return parsed


def socket_path(value: Any) -> Path:
    """An absolute path that fits into a socket address."""
    parsed = path(value)
    if len(str(parsed).encode()) > _LONGEST_SOCKET_PATH:
        raise ValueError(f"a socket's path has at most {_LONGEST_SOCKET_PATH} bytes")
    return parsed


def duration(value: Any) -> timedelta:
    """A whole number and a unit: s, m, h or d."""
    number, unit = text(value)[:-1], text(value)[-1]
    if not number.isdecimal() or unit not in _UNITS or not int(number):
        raise ValueError('a duration is needed, as in "90s", "20m", "24h"')
    try:
        return timedelta(seconds=int(number) * _UNITS[unit])
    except OverflowError:
        raise ValueError("that is longer than any certificate lives") from None


@dataclass(frozen=True)
class Size:
    """A number of bytes."""

    bytes: int

    def __str__(self) -> str:
        unit = next((u for u in reversed(_SIZES) if not self.bytes % _SIZES[u]), "KiB")
        return f"{self.bytes // _SIZES[unit]}{unit}"


def size(value: Any) -> Size:
    """A whole number and a unit: KiB, MiB or GiB."""
    found = re.fullmatch(r"([1-9][0-9]{0,5})(KiB|MiB|GiB)", text(value))
    if not found:
        raise ValueError('a size is needed, as in "512KiB", "64MiB", "1GiB"')
    return Size(int(found[1]) * _SIZES[found[2]])


def path_or_stdout(value: Any) -> str:
    """An absolute path, or the word stdout."""
    return "stdout" if value == "stdout" else str(path(value))


def at_most(longest: timedelta) -> Callable[[Any], timedelta]:
    """A duration that is not longer."""

    def parse(value: Any) -> timedelta:
        parsed = duration(value)
        if parsed > longest:
            raise ValueError(f"at most {longest.total_seconds():g}s are possible")
        return parsed

    return parse


def count(low: int, high: int) -> Callable[[Any], int]:
    """A whole number from `low` to `high`."""

    def parse(value: Any) -> int:
        number = int(value) if isinstance(value, str) and value.isdecimal() else value
        if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
            raise ValueError(f"a number from {low} to {high} is needed")
        return number

    return parse


def switch(value: Any) -> bool:
    """True or false; in the environment, as a word."""
    if isinstance(value, bool):
        return value
    if value not in ("true", "false"):
        raise ValueError("true or false is needed")
    return bool(value == "true")


def key_id(value: Any) -> bytes | None:
    """A CKA_ID in hexadecimal; nothing for an empty text."""
    try:
        parsed = bytes.fromhex(value)
    except (TypeError, ValueError):
        raise ValueError('a key id in hexadecimal is needed, as "meshkey keys list" has') from None
    return parsed or None


def one_of(*choices: str) -> Callable[[Any], str]:
    """One of a few words."""

    def parse(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"one of {', '.join(choices)} is needed")
        return str(value)

    return parse


@dataclass(frozen=True)
class Address:
    """A TCP address of this machine."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def address(value: Any) -> Address:
    """`host:port`, the host an IPv4 address or a name."""
    host, colon, port = text(value).rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > _LAST_PORT:
        raise ValueError('an address is needed, as in "127.0.0.1:9464"')
    return Address(host, int(port))


def loopback_address(value: Any) -> Address:
    """An address that nobody outside this machine, or pod, reaches."""
    parsed = address(value)
    if not (parsed.host == "localhost" or re.fullmatch(r"127(\.\d{1,3}){3}", parsed.host)):
        raise ValueError('a loopback address is needed, as in "127.0.0.1:9464"')
    return parsed


def fraction(low: float, high: float) -> Callable[[Any], float]:
    """A number from `low` to `high`."""

    def parse(value: Any) -> float:
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not low <= number <= high:
            raise ValueError(f"a number from {low} to {high} is needed")
        return number

    return parse


def identity_name(value: Any) -> str:
    """A name that is safe in file names and in the names of secrets."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError("a name has letters, digits, dots, dashes, underscores; at most 63")
    return value


def names(value: Any) -> tuple[str, ...]:
    """A list of names; in the environment, separated by commas."""
    listed = _listed(value, 'a list of names is needed, as in ["istio"]')
    return tuple(identity_name(name) for name in listed)


def user_id(value: Any) -> int:
    """A number of a user or group; of a user also the name."""
    if isinstance(value, str) and not value.isdecimal():
        try:
            return pwd.getpwnam(value).pw_uid
        except KeyError:
            raise ValueError(f"there is no user {value!r}") from None
    return count(0, _LAST_USER)(value)


def group_id(value: Any) -> int:
    """A number of a group, or its name."""
    if isinstance(value, str) and not value.isdecimal():
        try:
            return grp.getgrnam(value).gr_gid
        except KeyError:
            raise ValueError(f"there is no group {value!r}") from None
    return count(0, _LAST_USER)(value)


def sha256s(value: Any) -> frozenset[str]:
    """A list of digests in hexadecimal."""
    listed = _listed(value, "a list of SHA-256 digests is needed")
    if not all(isinstance(each, str) and _SHA256.fullmatch(each) for each in listed):
        raise ValueError('a SHA-256 digest has 64 digits, as "sha256sum" prints them')
    return frozenset(each.lower() for each in listed)


def pod_uid(value: Any) -> str:
    """As Kubernetes gives it to a pod; of a static pod it is a hash."""
    if not isinstance(value, str) or not _POD_UID.fullmatch(value):
        raise ValueError("a pod's UID is needed, as its metadata.uid has it")
    return value


def cgroup(value: Any) -> str:
    """The path of a cgroup, below the root."""
    if not re.fullmatch(r"(/[^/]+)+", text(value)) or {".", ".."} & set(value.split("/")):
        raise ValueError("a cgroup's path is needed, as /proc/PID/cgroup has it after the colons")
    return str(value)


def purposes(value: Any) -> frozenset[SigningPurpose]:
    """A list of what may be signed; it may be empty."""
    expected = f"a list of {', '.join(PURPOSE_NAMES)} is needed"
    listed = [] if value == [] else _listed(value, expected)
    if any(each not in PURPOSE_NAMES for each in listed):
        raise ValueError(expected)
    return frozenset(PURPOSE_NAMES[each] for each in listed)


def paths(value: Any) -> frozenset[Path]:
    """A list of absolute paths; in the environment, separated by commas."""
    return frozenset(path(each) for each in _listed(value, "a list of absolute paths is needed"))


def text_map(value: Any) -> Mapping[str, str]:
    """A table of texts, as in { name = "value" }; only in the file."""
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise ValueError('a table of texts is needed, as in { name = "value" }')
    return dict(value)


def _listed(value: Any, expected: str) -> list[Any]:
    listed = value.split(",") if isinstance(value, str) else value
    if not isinstance(listed, list) or not listed:
        raise ValueError(expected)
    return listed


def key_algorithm(value: Any) -> KeyAlgorithm:
    """The name of a key algorithm."""
    try:
        return KeyAlgorithm(value)
    except ValueError:
        known = ", ".join(algorithm.value for algorithm in KeyAlgorithm)
        raise ValueError(f"one of {known} is needed") from None


def ca_algorithm(value: Any) -> KeyAlgorithm:
    """The name of an algorithm whose certificates every verifier reads."""
    algorithm = key_algorithm(value)
    if algorithm is KeyAlgorithm.ED25519:
        raise ValueError("a CA's key is an EC or RSA key: verifiers refuse Ed25519 issuers")
    return algorithm


def sides(value: Any) -> frozenset[Side]:
    """A list of sides; in the environment, separated by commas."""
    names = value.split(",") if isinstance(value, str) else value
    known = {side.name.lower(): side for side in Side}
    if not isinstance(names, list) or not names or any(name not in [*known] for name in names):
        raise ValueError('a list of "server", "client" or both is needed')
    return frozenset(known[name] for name in names)
