"""Asks a running process, from the command line."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import grpc

from sidecar._proto.meshkey.admin.v1 import admin_pb2 as pb
from sidecar._proto.meshkey.admin.v1 import admin_pb2_grpc
from sidecar.errors import MeshkeyError

_DEADLINE_S = 30.0


class CommandFailed(MeshkeyError):
    """The process answered with an error, or not at all."""


class AdminClient:
    """Blocking calls to the admin socket; each raises `CommandFailed`."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._channel = grpc.insecure_channel(
            f"unix:{socket}", options=[("grpc.default_authority", "localhost")]
        )
        self._stub = admin_pb2_grpc.AdminStub(self._channel)

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
        try:
            answer: pb.StatusResponse = self._stub.Status(pb.StatusRequest(), timeout=_DEADLINE_S)
        except grpc.RpcError as error:
            raise self._failed(error) from error
        return answer

    def rotate(self, identity: str) -> int:
        """Renews `identity`; returns the generation that is published now."""
        try:
            answer: pb.RotateResponse = self._stub.Rotate(
                pb.RotateRequest(identity=identity), timeout=_DEADLINE_S
            )
        except grpc.RpcError as error:
            raise self._failed(error) from error
        return answer.generation

    def _failed(self, error: grpc.RpcError) -> CommandFailed:
        if error.code() is grpc.StatusCode.UNAVAILABLE and not self._socket.exists():
            return CommandFailed(f"nothing serves {self._socket}: is the process running?")
        return CommandFailed(f"{self._socket}: {error.details()}")
