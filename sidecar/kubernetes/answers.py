"""What the API server answers, read with bounds: objects, watch events, failures.

Its failures are two types of error, as everywhere: ask again later, or change something. Each
seam that asks the API server turns them into its own.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import aiohttp

from sidecar.errors import MeshkeyError, Retryable

Document = dict[str, Any]

# etcd takes 1.5 MiB for an object; JSON and base64 make it larger.
MAX_ANSWER = 4 << 20
_MAX_REASON = 300
_LATER = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}


class ApiUnavailable(Retryable):
    """The API server did not answer, or asked to come back."""

    def __init__(self, message: str, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ApiRefusal(MeshkeyError):
    """The API server refused, with this HTTP status; 0 if its answer is what cannot be used."""

    def __init__(self, message: str, status: int = 0, document: Document | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.document = document or {}


@dataclass(frozen=True)
class Event:
    """One line of a watch: ADDED, MODIFIED, DELETED or BOOKMARK, and the object after it."""

    kind: str
    document: Document


async def read_document(response: aiohttp.ClientResponse) -> Document:
    """The object that `response` carries.

    Raises:
        ApiUnavailable, ApiRefusal: it carries a failure, or nothing that could be read.
        aiohttp.ClientError: the connection was lost.
    """
    await require_success(response)
    return _parsed(await _bounded(response))


async def require_success(response: aiohttp.ClientResponse) -> None:
    """Raises what `response` says, if it is no success."""
    if response.status >= HTTPStatus.MULTIPLE_CHOICES:
        raise _failure(response.status, await _bounded(response), response.headers)


async def read_events(response: aiohttp.ClientResponse) -> AsyncIterator[Event]:
    """The events of a watch, until the server ends it. A last, unfinished line is dropped.

    Raises:
        ApiUnavailable, ApiRefusal: the watch ended with a failure (410: its start is too old).
        aiohttp.ClientError: the connection was lost.
    """
    await require_success(response)
    rest = b""
    async for piece in response.content.iter_any():
        *lines, rest = (rest + piece).split(b"\n")
        for line in filter(None, lines):
            yield _event(_parsed(line))
        if len(rest) > MAX_ANSWER:
            raise _too_large()


def _event(line: Document) -> Event:
    kind, document = line.get("type"), line.get("object")
    if not isinstance(kind, str) or not isinstance(document, dict):
        raise ApiUnavailable("the API server sent something that is no watch event")
    if kind == "ERROR":
        code = document.get("code")
        raise _refused_or_later(code if isinstance(code, int) else 0, document)
    return Event(kind, document)


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > MAX_ANSWER:
            raise _too_large()
    return body


def _too_large() -> ApiRefusal:
    return ApiRefusal(f"the API server's answer is larger than {MAX_ANSWER >> 20} MiB")


def _parsed(text: bytes) -> Document:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ApiUnavailable("the API server sent something that is no JSON object")
    return document


def _failure(status: int, body: bytes, headers: Mapping[str, str]) -> ApiUnavailable | ApiRefusal:
    try:
        document = _parsed(body)
    except ApiUnavailable:  # "404 page not found", a proxy's page
        document = {}
    failure = _refused_or_later(status, document)
    if isinstance(failure, ApiUnavailable):
        failure.retry_after = _retry_after(headers.get("Retry-After"))
    return failure


def _refused_or_later(status: int, document: Document) -> ApiUnavailable | ApiRefusal:
    reason = f"{status} {document.get('reason') or ''}".rstrip()
    if message := _printable(document.get("message")):
        reason += f": {message}"
    if status in _LATER:
        return ApiUnavailable(f"the API server answered {reason}")
    return ApiRefusal(f"the API server answered {reason}", status, document)


def _printable(message: object) -> str:
    text = "".join(c if c.isprintable() else " " for c in str(message or ""))
    return text if len(text) <= _MAX_REASON else f"{text[:_MAX_REASON]}..."


def _retry_after(header: str | None) -> timedelta | None:
    # RFC 9110 section 10.2.3 allows a date too; the API server sends seconds.
    if header is None or not header.isascii() or not header.isdigit():
        return None
    return timedelta(seconds=min(int(header[:6]), 60))
