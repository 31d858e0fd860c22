"""The state of the world: each response has every secret that the stream asks for.

The rules are those of Envoy's xDS protocol: a nonce names the response that a request speaks
of, and a request with an older nonce crossed a response on its way.
"""

from __future__ import annotations

from collections.abc import Iterator

from sidecar._proto.third_party import envoy_sds_pb2 as pb
from sidecar.sds import resources
from sidecar.sds.followed import Followed, checked
from sidecar.sds.requests import node_of, require_secrets
from sidecar.sds.verdicts import Verdicts
from sidecar.sds.watched import Watched


class SotwExchange:
    """What one StreamSecrets call knows of its client. It neither reads nor writes."""

    def __init__(self, followed: Followed, verdicts: Verdicts, nonces: Iterator[str]) -> None:
        self._followed = followed
        self._verdicts = verdicts
        self._nonces = nonces
        self._node = ""
        self._nonce = ""
        # Of the last response, until the client has said something of it.
        self._unjudged: list[tuple[Watched, str]] = []

    def receive(self, request: pb.DiscoveryRequest) -> None:
        """Takes up what the client asks for, and what it says of the last response.

        Raises:
            DiscoveryRefused: secrets are not all that it asks for, or it asks for too much.
            UnknownSecret: nothing of ours has a name that it asks for.
        """
        require_secrets(request.type_url)
        self._node = self._node or node_of(request)
        # After a restart of ours the first request may still have a nonce of before; the
        # version in it says nothing that matters: what is asked for is sent.
        if self._nonce and request.response_nonce not in {"", self._nonce}:
            return
        if self._unjudged and request.response_nonce == self._nonce:
            self._verdicts.judge(request, self._unjudged, self._node)
            # Later requests with this nonce only change what is asked for.
            self._unjudged = []
        self._ask(checked(request.resource_names))

    def response(self) -> pb.DiscoveryResponse | None:
        """What is to be sent now; nothing while the client has been sent all that there is.

        Raises:
            UnknownSecret: a name stands for nothing any more.
        """
        there = [watched for watched in self._followed if watched.version is not None]
        if not any(watched.is_news for watched in there):
            return None
        for watched in there:
            if not watched.secret and not watched.withdrawn:
                self._followed.source.refuse(watched.name)
        self._nonce = next(self._nonces)
        self._unjudged = [(watched, watched.mark_sent()) for watched in there]
        return pb.DiscoveryResponse(
            version_info=resources.version(watched.secret for watched in there),
            # Without what was withdrawn: this is how this protocol says that it is gone.
            resources=[resources.as_any(watched.secret) for watched in there if watched.secret],
            type_url=resources.SECRET,
            nonce=self._nonce,
        )

    def _ask(self, names: list[str]) -> None:
        for watched in self._followed:
            if watched.name not in names:
                self._followed.drop(watched.name)
        for name in names:
            self._followed.add(name)
