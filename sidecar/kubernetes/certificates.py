"""The calls of certificates.k8s.io that meshkey makes, and no others.

There is none for a request's approval: whoever asks must not be the one who approves.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Awaitable, Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus

import aiohttp
from kubernetes.aio import client
from kubernetes.aio.config.config_exception import ConfigException

from sidecar.kubernetes.answers import (
    ApiRefusal,
    ApiUnavailable,
    Document,
    Event,
    read_document,
    read_events,
)

_CALL_LIMIT_S = 15.0
# Somebody waits for what comes after it, at times the end of the process.
_DELETE_LIMIT_S = 5.0
# A connection that died without a word is noticed after this.
_WATCH_S = 240
_GROUP = "certificates.k8s.io"
_REQUESTS = f"certificatesigningrequests.{_GROUP}"
_BUNDLES = f"clustertrustbundles.{_GROUP}"


class CertificatesApi:
    """One session with the API server.

    All calls raise:
        ApiUnavailable: no answer, or one that says to come back.
        ApiRefusal: any other failure; 401 and 403 with the permission that is missing.
    """

    def __init__(self, api_client: client.ApiClient) -> None:
        self._v1 = client.CertificatesV1Api(api_client)
        self._v1beta1 = client.CertificatesV1beta1Api(api_client)

    async def create_request(
        self,
        name: str,
        *,
        signer_name: str,
        request: bytes,
        usages: Sequence[str],
        expiration_seconds: int,
    ) -> Document:
        """Creates a CertificateSigningRequest; `request` is PEM."""
        body = client.V1CertificateSigningRequest(
            api_version=f"{_GROUP}/v1",
            kind="CertificateSigningRequest",
            metadata=client.V1ObjectMeta(name=name),
            spec=client.V1CertificateSigningRequestSpec(
                # The client would pass bytes on as they are, and JSON has none.
                request=base64.b64encode(request).decode("ascii"),
                signer_name=signer_name,
                usages=list(usages),
                expiration_seconds=expiration_seconds,
            ),
        )
        with _asking("create", _REQUESTS):
            return await _document(
                self._v1.create_certificate_signing_request_without_preload_content(
                    body, field_validation="Strict", _request_timeout=_CALL_LIMIT_S
                )
            )

    async def read_request(self, name: str) -> Document:
        """A CertificateSigningRequest as it is now."""
        with _asking("get", _REQUESTS):
            return await _document(
                self._v1.read_certificate_signing_request_without_preload_content(
                    name, _request_timeout=_CALL_LIMIT_S
                )
            )

    async def watch_request(self, name: str, version: str) -> AsyncGenerator[Event, None]:
        """What happens to a CertificateSigningRequest after `version`.

        Ends after some minutes at the latest, and whenever the server wants. Close it
        (`contextlib.aclosing`), which closes the connection.
        """
        with _asking("watch", _REQUESTS):
            response = await self._v1.list_certificate_signing_request_without_preload_content(
                watch=True,
                field_selector=f"metadata.name={name}",
                resource_version=version,
                timeout_seconds=_WATCH_S,
                _request_timeout=_WATCH_S + _CALL_LIMIT_S,
            )
            async with response:
                async for event in read_events(response):
                    yield event

    async def delete_request(self, name: str, uid: str | None) -> None:
        """Deletes a CertificateSigningRequest, if it is still the one with that `uid`."""
        conditions = client.V1Preconditions(uid=uid) if uid else None
        with _asking("delete", _REQUESTS):
            await _document(
                self._v1.delete_certificate_signing_request_without_preload_content(
                    name,
                    body=client.V1DeleteOptions(preconditions=conditions),
                    _request_timeout=_DELETE_LIMIT_S,
                )
            )

    async def read_trust_bundle(self, name: str) -> Document:
        """A ClusterTrustBundle, in the newest version of the API that the cluster serves.

        Newer clusters serve it in v1; those from 1.33 on in v1beta1, there behind a gate.
        """
        for read in (
            self._v1.read_cluster_trust_bundle_without_preload_content,
            self._v1beta1.read_cluster_trust_bundle_without_preload_content,
        ):
            try:
                with _asking("get", _BUNDLES):
                    return await _document(read(name, _request_timeout=_CALL_LIMIT_S))
            except ApiRefusal as error:
                if error.status != HTTPStatus.NOT_FOUND:
                    raise
                if _names_an_object(error.document):
                    raise ApiRefusal(
                        f'there is no ClusterTrustBundle "{name}"; '
                        "list them with kubectl get clustertrustbundles",
                        error.status,
                    ) from None
        raise ApiRefusal(
            "this cluster serves no ClusterTrustBundle: it needs Kubernetes 1.33 with the "
            f"feature gate ClusterTrustBundle and the API {_GROUP}/v1beta1 enabled, or later",
            HTTPStatus.NOT_FOUND,
        )


def _names_an_object(status: Document) -> bool:
    """Whether a 404 speaks of an object; else the API server does not know the kind."""
    details = status.get("details")
    return isinstance(details, dict) and bool(details.get("name"))


async def _document(call: Awaitable[aiohttp.ClientResponse]) -> Document:
    async with await call as response:
        return await read_document(response)


@contextmanager
def _asking(verb: str, resource: str) -> Iterator[None]:
    try:
        yield
    except ApiRefusal as error:
        if error.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise ApiRefusal(
                f'{error}; the service account needs a ClusterRole with the verb "{verb}" '
                f"on {resource}",
                error.status,
            ) from error
        raise
    except (aiohttp.ClientError, OSError, ConfigException) as error:
        # From nothing: such an error may hold the request, whose headers hold the token.
        reason = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise ApiUnavailable(f"{verb} {resource}: {reason}") from None
