"""Asks a running process, from the command line."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TypeVar

import grpc

from sidecar._proto.meshkey.admin.v1 import admin_pb2 as pb
from sidecar._proto.meshkey.admin.v1 import admin_pb2_grpc
from sidecar.errors import ConfigurationError, MeshkeyError, NoSuchKey

_DEADLINE_S = 30.0
# For what ends keys, on a token that may be slow.
_ENDING_S = 240.0
_A = TypeVar("_A")


class CommandFailed(MeshkeyError):
    """The process answered with an error, or not at all."""


class AdminClient:
    """Blocking calls to an admin socket; each raises `CommandFailed`.

    The read-only socket answers `status`, `health` and `keys`.
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

    def keys(self) -> Sequence[pb.LiveKey]:
        """The keys that it signs with, and those that it was told never to."""
        return list(
            self._answer(lambda: self._observer.Keys(pb.KeysRequest(), timeout=_DEADLINE_S)).keys
        )

    def revoke(self, key_id: bytes) -> pb.EndResponse:
        """Ends one key.

        Raises:
            NoSuchKey: the process has none of that name.
        """
        request = pb.RevokeRequest(key_id=key_id)
        answer: pb.EndResponse = self._answer(
            lambda: self._admin.Revoke(request, timeout=_ENDING_S),
            {grpc.StatusCode.NOT_FOUND: NoSuchKey},
        )
        return answer

    def deprovision(self, identity: str) -> pb.EndResponse:
        """Ends `identity` with all its keys."""
        request = pb.DeprovisionRequest(identity=identity)
        answer: pb.EndResponse = self._answer(
            lambda: self._admin.Deprovision(request, timeout=_ENDING_S)
        )
        return answer

    def reinstate(self, identity: str) -> None:
        """Lets `identity` live again."""
        request = pb.ReinstateRequest(identity=identity)
        self._answer(lambda: self._admin.Reinstate(request, timeout=_ENDING_S))

    def reload(self) -> pb.ReloadResponse:
        """Has the configuration read again.

        Raises:
            ConfigurationError: it cannot apply; nothing changed.
        """
        answer: pb.ReloadResponse = self._answer(
            lambda: self._admin.Reload(pb.ReloadRequest(), timeout=_DEADLINE_S),
            {grpc.StatusCode.FAILED_PRECONDITION: ConfigurationError},
        )
        return answer

    def _answer(
        self,
        call: Callable[[], _A],
        refusals: Mapping[grpc.StatusCode, type[MeshkeyError]] = MappingProxyType({}),
    ) -> _A:
        try:
            return call()
        except grpc.RpcError as error:
            if kind := refusals.get(error.code()):
                raise kind(error.details()) from error
            raise self._failed(error) from error

    def _failed(self, error: grpc.RpcError) -> CommandFailed:
        if error.code() is grpc.StatusCode.UNAVAILABLE and (closed := self._why_closed()):
            return CommandFailed(closed)
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return CommandFailed(f"{self._socket} takes no commands: use admin.socket")
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return CommandFailed(
                f"{self._socket}: no answer yet; what was begun goes on, see: meshkey status"
            )
        return CommandFailed(f"{self._socket}: {error.details()}")

    def _why_closed(self) -> str:
        """Why nobody can be asked there, or nothing."""
        try:
            if not self._socket.exists():
                return f"nothing serves {self._socket}: is the process running?"
            is_open = os.access(self._socket, os.W_OK)
        except PermissionError:
            is_open = False
        whom = "ask as root or as the sidecar's user"
        return "" if is_open else f"{self._socket} is closed to this user: {whom}"
