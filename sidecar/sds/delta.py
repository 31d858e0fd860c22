"""The incremental protocol: each response has what the client does not have yet."""

from __future__ import annotations

from collections.abc import Iterator

from sidecar._proto.third_party import envoy_sds_pb2 as pb
from sidecar.errors import DiscoveryRefused, UnknownSecret
from sidecar.sds import resources
from sidecar.sds.followed import MAX_NAMES, Followed, checked
from sidecar.sds.requests import node_of, require_secrets
from sidecar.sds.verdicts import Verdicts
from sidecar.sds.watched import Watched

# Responses of which the client has said nothing yet; older ones are forgotten.
_UNJUDGED = 16


class DeltaExchange:
    """What one DeltaSecrets call knows of its client. It neither reads nor writes."""

    def __init__(self, followed: Followed, verdicts: Verdicts, nonces: Iterator[str]) -> None:
        self._followed = followed
        self._verdicts = verdicts
        self._nonces = nonces
        self._node = ""
        self._is_first = True
        self._unjudged: dict[str, list[tuple[Watched, str]]] = {}
        # Asked for, not ours, and not told yet.
        self._unknown: dict[str, None] = {}

    def receive(self, request: pb.DeltaDiscoveryRequest) -> None:
        """Takes up what the client asks for, and what it says of a response.

        Raises:
            DiscoveryRefused: secrets are not all that it asks for, or it asks for too much.
        """
        require_secrets(request.type_url)
        self._node = self._node or node_of(request)
        if (judged := self._unjudged.pop(request.response_nonce, None)) is not None:
            self._verdicts.judge(request, judged, self._node)
        for name in request.resource_names_unsubscribe:
            self._followed.drop(name)
            self._unknown.pop(name, None)
        for name in checked(request.resource_names_subscribe):
            self._subscribe(name)
        if self._is_first:
            self._is_first = False
            self._take_over(request)

    def response(self) -> pb.DeltaDiscoveryResponse | None:
        """What is to be sent now; nothing while the client has been sent all that there is."""
        news = [watched for watched in self._followed if watched.is_news]
        if not news and not self._unknown:
            return None
        nonce = next(self._nonces)
        response = pb.DeltaDiscoveryResponse(
            resources=[_resource(watched) for watched in news if watched.secret],
            removed_resources=[
                *self._unknown,
                *(watched.name for watched in news if not watched.secret),
            ],
            type_url=resources.SECRET,
            nonce=nonce,
        )
        self._unknown.clear()
        self._unjudged[nonce] = [(watched, watched.mark_sent()) for watched in news]
        if len(self._unjudged) > _UNJUDGED:
            del self._unjudged[next(iter(self._unjudged))]
        return response

    def _subscribe(self, name: str) -> None:
        """Asking again means that the client may have dropped what it had."""
        try:
            self._followed.add(name).forget_sent()
        except UnknownSecret as error:
            self._verdicts.refuse(error)
            if len(self._unknown) >= MAX_NAMES:
                raise DiscoveryRefused("too many names that are not served here") from None
            self._unknown[name] = None
        self._followed.news.set()

    def _take_over(self, request: pb.DeltaDiscoveryRequest) -> None:
        """What the client has from an earlier stream is not sent again while it is current."""
        for name, held in request.initial_resource_versions.items():
            if resources.is_version(held) and (watched := self._followed.named(name)):
                watched.claim(held)


def _resource(watched: Watched) -> pb.Resource:
    return pb.Resource(
        version=watched.version or "",
        resource=resources.as_any(watched.secret),
        name=watched.name,
    )
