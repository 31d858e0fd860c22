"""Asks a running process, from the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import grpc

from sidecar._proto.meshkey.admin.v1 import admin_pb2 as pb
from sidecar._proto.meshkey.admin.v1 import admin_pb2_grpc
from sidecar.errors import MeshkeyError

_DEADLINE_S = 30.0
_A = TypeVar("_A")


class CommandFailed(MeshkeyError):
    """The process answered with an error, or not at all."""


class AdminClient:
    """Blocking calls to an admin socket; each raises `CommandFailed`.

    The read-only socket answers `status` and `health`.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._channel = grpc.insecure_channel(
            f"unix:{socket}", options=[("grpc.default_authority", "localhost")]
        )
        self._observer = admin_pb2_grpc.ObserverStub(self._channel)
        self._admin = admin_pb2_grpc.AdminStub(self._channel)

    def __enter__(self) -> AdminClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._channel.close()

    def status(self) -> pb.StatusResponse:
        """What the process is doing."""
        request = pb.StatusRequest()
        answer: pb.StatusResponse = self._answer(
            lambda: self._observer.Status(request, timeout=_DEADLINE_S)
        )
        return answer

    def health(self) -> Sequence[str]:
        """What keeps it from doing that, a line each; nothing if all is well."""
        return list(
            self._answer(
                lambda: self._observer.Health(pb.HealthRequest(), timeout=_DEADLINE_S)
            ).problems
        )

    def rotate(self, identity: str) -> int:
        """Renews `identity`; returns the generation that is published now."""
        request = pb.RotateRequest(identity=identity)
        return int(
            self._answer(lambda: self._admin.Rotate(request, timeout=_DEADLINE_S)).generation
        )

    def _answer(self, call: Callable[[], _A]) -> _A:
        try:
            return call()
        except grpc.RpcError as error:
            raise self._failed(error) from error

    def _failed(self, error: grpc.RpcError) -> CommandFailed:
        if error.code() is grpc.StatusCode.UNAVAILABLE and not self._socket.exists():
            return CommandFailed(f"nothing serves {self._socket}: is the process running?")
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return CommandFailed(f"{self._socket} takes no commands: use admin.socket")
        return CommandFailed(f"{self._socket}: {error.details()}")
