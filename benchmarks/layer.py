"""One token in a process of its own, measured on command.

A process loads a module once, so each token gets one. Commands come in and results go out
as one JSON object a line; `tokens.Layer` is the other end.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import structlog

from benchmarks.native_pool import NativePool
from sidecar.core.schemes import KeyAlgorithm, SignatureScheme
from sidecar.core.token_selector import TokenSelector
from sidecar.errors import MeshkeyError, TokenError
from sidecar.token import signing
from sidecar.token.base import TokenKey
from sidecar.token.executor import TokenExecutor
from sidecar.token.lanes import Lane, Purpose
from sidecar.token.login import Login
from sidecar.token.pin_sources import PinFile
from sidecar.token.pkcs11 import Pkcs11Token
from sidecar.token.profiles import profile_of

_MODULES_OF_SOFTHSM2 = {"libslow_hsm.so"}
# As long as the content of a CertificateVerify with SHA-256.
_LENGTH = 130
_LANE = Lane(Purpose.SERVER)
_LIMIT_S = 60.0
# Making an RSA key takes a second and more, and never twice the same time.
_GENERATIONS = 3
_GENERATING_S = 4.0
_LOST_S = 30.0


class Bench:
    """Commands are the public methods' names."""

    def __init__(self, module: Path, label: str, pin_file: Path, runner: asyncio.Runner) -> None:
        name = module.name
        if name in _MODULES_OF_SOFTHSM2:
            name = "libsofthsm2.so"
            # It repeats its signatures, and the check of one a second notices.
            signing._TRUSTED_S = math.inf
        self._module = module
        self._token = Pkcs11Token.open(
            module, TokenSelector(label=label), Login(PinFile(pin_file)), profile_of(name)
        )
        self._runner = runner
        # Kept, because each thread of theirs keeps its session.
        self._crews: dict[int, ThreadPoolExecutor] = {}
        self._executors: dict[int, TokenExecutor] = {}
        self._key: TokenKey | None = None
        self._scheme = SignatureScheme.ECDSA_SECP256R1_SHA256

    def generate(self, algorithm: str) -> dict[str, Any]:
        """Makes the key that is measured from here on; says why where the token makes none."""
        kind, began = KeyAlgorithm(algorithm), time.monotonic()
        taken: list[float] = []
        try:
            while len(taken) < _GENERATIONS and time.monotonic() - began < _GENERATING_S:
                if self._key:
                    self._token.destroy(self._key.id)
                    self._key = None
                before = time.monotonic()
                self._key = self._token.generate(kind, "bench")
                taken.append(time.monotonic() - before)
            assert self._key
            self._scheme = self._token.schemes(self._key)[0]
        except TokenError as error:
            return {"error": str(error)}
        return {"key": str(self._key.id), "ms": median(taken) * 1e3, "scheme": self._scheme.name}

    def layer(self, threads: int, seconds: float) -> dict[str, Any]:
        """`Pkcs11Token.sign` from some threads."""
        crew = self._crews.setdefault(threads, ThreadPoolExecutor(threads))
        start = threading.Barrier(threads)
        runs = list(crew.map(lambda _: self._sign_for(seconds, start), range(threads)))
        taken = [time_ for times, _ in runs for time_ in times]
        return {"per_second": len(taken) / max(span for _, span in runs), **_percentiles(taken)}

    def executor(self, threads: int, in_flight: int, seconds: float) -> dict[str, Any]:
        """`TokenExecutor` with so many pieces of work that wait or run."""
        return self._runner.run(self._through_executor(threads, in_flight, seconds))

    def pool(self, threads: int, in_flight: int, seconds: float) -> dict[str, Any]:
        """The pool in C, in this process, beside the layer."""
        key = self._need_key()
        pool = NativePool(self._module, self._token._sessions.token.slot.slot_id, threads)
        message = bytes(_LENGTH - 4)
        made = 0
        pool.submit(key.id.value, [(n, message + n.to_bytes(4)) for n in range(in_flight)])
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            answers = pool.collect()
            made += len(answers)
            pool.submit(key.id.value, [(n, message + made.to_bytes(4)) for n, _ in answers])
        span = time.monotonic() - began
        pool.close()
        return {"per_second": made / span}

    def until_lost(self) -> dict[str, Any]:
        """Signs until the token is gone."""
        deadline = time.monotonic() + _LOST_S
        while time.monotonic() < deadline:
            try:
                self._sign(0)
            except TokenError:
                return {}
        raise SystemExit(f"the token still signs after {_LOST_S:.0f} s")

    def first(self) -> dict[str, Any]:
        """One signature, which must come: the first after the token's return."""
        began = time.monotonic()
        self._sign(0)
        return {"ms": (time.monotonic() - began) * 1e3}

    def _need_key(self) -> TokenKey:
        assert self._key, "generate first"
        return self._key

    def _sign(self, number: int) -> bytes:
        message = number.to_bytes(8) + bytes(_LENGTH - 8)
        return self._token.sign(self._need_key().id, self._scheme, message)

    def _sign_for(self, seconds: float, start: threading.Barrier) -> tuple[list[float], float]:
        self._sign(0)  # the first one opens a session and finds the key
        start.wait()
        taken: list[float] = []
        began = before = time.monotonic()
        while before - began < seconds:
            self._sign(len(taken))
            now = time.monotonic()
            taken.append(now - before)
            before = now
        return taken, before - began

    async def _through_executor(
        self, threads: int, in_flight: int, seconds: float
    ) -> dict[str, Any]:
        executor = self._executors.get(threads)
        if executor is None:
            executor = self._executors[threads] = TokenExecutor(threads, 512)
            # Opens the sessions and finds the key; not part of the measure.
            await self._load(executor, 2 * threads, 0.2)
        return await self._load(executor, in_flight, seconds)

    async def _load(
        self, executor: TokenExecutor, in_flight: int, seconds: float
    ) -> dict[str, Any]:
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        made, failed, began = 0, [], time.monotonic()

        def ask() -> None:
            number = made
            executor.submit(_LANE, lambda: self._sign(number), answer, limit=_LIMIT_S)

        def answer(_: object, error: BaseException | None) -> None:
            nonlocal made
            made += 1
            if error:
                failed.append(error)
            if time.monotonic() - began < seconds and not failed:
                ask()
            elif not executor.pending:
                ended.set_result(None)

        for _ in range(in_flight):
            ask()
        await ended
        if failed:
            raise failed[0]
        return {"per_second": made / (time.monotonic() - began)}


def _percentiles(taken: list[float]) -> dict[str, float]:
    ordered = sorted(taken)
    # As raw_token.c counts them.
    p50, p99 = ordered[len(ordered) // 2], ordered[len(ordered) - 1 - len(ordered) // 100]
    return {"p50_us": p50 * 1e6, "p99_us": p99 * 1e6}


def main() -> None:
    # Standard output is for results.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    module, label, pin_file = sys.argv[1:]
    with asyncio.Runner() as runner:
        bench = Bench(Path(module), label, Path(pin_file), runner)
        for line in sys.stdin:
            command: dict[str, Any] = json.loads(line)
            method: Callable[..., dict[str, Any]] = getattr(bench, command.pop("do"))
            try:
                result = method(**command)
            except MeshkeyError as error:
                result = {"error": str(error)}
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
