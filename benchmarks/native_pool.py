"""The signing pool in C, as Python would use it: an experiment (docs/adr/0015)."""

from __future__ import annotations

import ctypes
import hashlib
import struct
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

_LIBRARY = Path(__file__).with_name("libnative_pool.so")
# Request and Answer of native_pool.c.
_REQUEST = struct.Struct("=QQ16s64s")
_ANSWER = struct.Struct("=QQQ160s")
_MOST = 512


class NativePool:
    """ECDSA over SHA-256. Submits and collects from one thread."""

    def __init__(self, module: Path, slot: int, threads: int) -> None:
        self._c = ctypes.CDLL(str(_LIBRARY))
        self._c.pool_open.restype = ctypes.c_void_p
        self._pool = ctypes.c_void_p(
            self._c.pool_open(str(module).encode(), ctypes.c_ulong(slot), threads)
        )
        if not self._pool:
            raise SystemExit(f"{_LIBRARY.name} cannot use {module}")
        self._requests = bytearray(_REQUEST.size * _MOST)
        self._answers = bytearray(_ANSWER.size * _MOST)
        self._requests_at = (ctypes.c_char * len(self._requests)).from_buffer(self._requests)
        self._answers_at = (ctypes.c_char * len(self._answers)).from_buffer(self._answers)

    def submit(self, key_id: bytes, messages: Sequence[tuple[int, bytes]]) -> None:
        """At most 512 at once."""
        for place, (number, message) in enumerate(messages):
            digest = hashlib.sha256(message).digest()
            _REQUEST.pack_into(
                self._requests, place * _REQUEST.size, number, len(digest), key_id, digest
            )
        if self._c.pool_submit(self._pool, self._requests_at, len(messages)) != len(messages):
            raise SystemExit("the pool is full")

    def collect(self) -> list[tuple[int, bytes]]:
        """Blocks until at least one signature is there; each with its number, in DER."""
        made = []
        for place in range(self._c.pool_collect(self._pool, self._answers_at, _MOST)):
            number, code, length, raw = _ANSWER.unpack_from(self._answers, place * _ANSWER.size)
            if code:
                raise SystemExit(f"signature {number} failed with 0x{code:x}")
            r, s = raw[: length // 2], raw[length // 2 : length]
            made.append((number, encode_dss_signature(int.from_bytes(r), int.from_bytes(s))))
        return made

    def close(self) -> None:
        self._c.pool_close(self._pool)
