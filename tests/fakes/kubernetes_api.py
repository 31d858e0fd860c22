"""A strict API server that speaks real HTTP, with TLS, and real watch streams."""

from __future__ import annotations

import json
import ssl
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.fakes.kubernetes_cluster import Change, Cluster, Object
from tests.fakes.kubernetes_rules import broken_rules, unknown_fields

TOKEN = "header.secret-of-the-service-account.signature"
_GROUP = "/apis/certificates.k8s.io/"
_REQUESTS = f"{_GROUP}v1/certificatesigningrequests"


@dataclass(frozen=True)
class Fault:
    """Answers a call with a failure instead."""

    status: int
    reason: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


class KubernetesApi(ThreadingHTTPServer):
    """Serves `cluster`. What breaks its rules is told the client, and kept in `problems`."""

    daemon_threads = False
    block_on_close = True

    def __init__(self, cluster: Cluster, tls: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.cluster = cluster
        self.token = TOKEN
        self.calls: list[str] = []
        self.problems: list[str] = []
        # By verb, one a call.
        self.faults: defaultdict[str, list[Fault]] = defaultdict(list)
        # One a watch: how its stream ends at once. "close", "cut", "gone", "garbage", "bookmark".
        self.endings: list[str] = []
        self.watching = 0
        self.stopping = False

    @property
    def port(self) -> int:
        return self.server_port

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            self.stop()
            thread.join()

    def stop(self) -> None:
        """Ends all watches and accepts nobody any more."""
        if self.stopping:
            return
        with self.cluster.changed:
            self.stopping = True
            self.cluster.changed.notify_all()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: clients that go away or do not trust us are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: KubernetesApi

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""

    def do_POST(self) -> None:
        self._dispatch("create")

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        watch = parse_qs(url.query).get("watch") in (["true"], ["True"], ["1"])
        self._dispatch("watch" if watch else "list" if url.path == _REQUESTS else "get")

    def do_DELETE(self) -> None:
        self._dispatch("delete")

    def _forbidden_verb(self) -> None:
        self.server.problems.append(f"{self.command} {self.path}")
        self._fail(Fault(405, "MethodNotAllowed"))

    do_PUT = do_PATCH = do_HEAD = do_OPTIONS = _forbidden_verb  # noqa: N815

    def _dispatch(self, verb: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.calls.append(verb)
        path = unquote(urlsplit(self.path).path)
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or token != self.server.token:
            self._fail(Fault(401, "Unauthorized"))
        elif self.server.faults[verb]:
            self._fail(self.server.faults[verb].pop(0))
        elif path.startswith(_GROUP) and "/clustertrustbundles/" in path and verb == "get":
            self._trust_bundle(*path.removeprefix(_GROUP).split("/clustertrustbundles/"))
        elif path == _REQUESTS and verb == "create":
            self._create(body)
        elif path == _REQUESTS and verb == "watch":
            self._watch()
        elif path.startswith(f"{_REQUESTS}/") and "/" not in (name := path[len(_REQUESTS) + 1 :]):
            self._named(verb, name, body)
        else:
            self.server.problems.append(f"{self.command} {self.path}")
            self._fail(Fault(404, "NotFound", body=b"404 page not found\n"))

    def _create(self, body: bytes) -> None:
        document = json.loads(body)
        if self.headers["Content-Type"] != "application/json":
            self._refuse(415, "UnsupportedMediaType", self.headers["Content-Type"])
        elif unknown := unknown_fields(document):
            self._refuse(400, "BadRequest", f"strict decoding error: unknown fields {unknown}")
        elif broken := broken_rules(document):
            self._fail(Fault(422, "Invalid: " + "; ".join(broken)))
        elif created := self.server.cluster.create(document):
            self._answer(201, created)
        else:
            self._fail(Fault(409, "AlreadyExists"))

    def _named(self, verb: str, name: str, body: bytes) -> None:
        document = self.server.cluster.read(name)
        if document is None:
            self._answer(404, _status(404, "NotFound", details={"name": name}))
        elif verb == "get":
            self._answer(200, document)
        else:
            wanted = (json.loads(body or b"{}").get("preconditions") or {}).get("uid")
            if wanted not in (None, document["metadata"]["uid"]):
                self._fail(Fault(409, "Conflict"))
                return
            self.server.cluster.delete(name)
            self._answer(200, {"kind": "Status", "apiVersion": "v1", "status": "Success"})

    def _trust_bundle(self, version: str, name: str) -> None:
        bundles = self.server.cluster.bundles.get(version)
        if bundles is None:
            if version == "v1":  # the group's version exists, without this kind
                self._answer(404, _status(404, "NotFound", details={}))
            else:
                self._fail(Fault(404, body=b"404 page not found\n"))
        elif name not in bundles:
            self._answer(404, _status(404, "NotFound", details={"name": name}))
        else:
            document = {"kind": "ClusterTrustBundle", "metadata": {"name": name}}
            self._answer(200, {**document, "spec": {"trustBundle": bundles[name]}})

    def _watch(self) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        selector, version = query.get("fieldSelector", ""), query.get("resourceVersion", "")
        name = selector.removeprefix("metadata.name=")
        if name == selector or not version.isdigit() or not query["timeoutSeconds"].isdigit():
            self._refuse(400, "BadRequest", f"a watch for {query}")
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        ending = self.server.endings.pop(0) if self.server.endings else ""
        if ending in {"", "bookmark"}:
            self.server.watching += 1
            try:
                self._stream(name, int(version), bookmark=bool(ending))
            finally:
                self.server.watching -= 1
        elif ending == "gone":
            self._event("ERROR", _status(410, "Expired"))
        elif ending == "garbage":
            self._chunk(b'{"type": "MODIF\n')
        elif ending == "cut":
            self._chunk(b'{"type": "MODIFIED", "object": {"metad')
            self.close_connection = True
            return
        self._chunk(b"")

    def _stream(self, name: str, after: int, *, bookmark: bool) -> None:
        if bookmark:
            self._event("BOOKMARK", {"metadata": {"resourceVersion": str(after)}})
        while change := self._next(name, after):
            # In pieces, as the network may have it.
            line = json.dumps({"type": change.kind, "object": change.document}).encode() + b"\n"
            for part in (line[: len(line) // 3], line[len(line) // 3 :]):
                self._chunk(part)
            after = change.version

    def _next(self, name: str, after: int) -> Change | None:
        """The next change; `None` when the server stops or the client went away."""
        cluster = self.server.cluster
        with cluster.changed:
            while not self.server.stopping:
                for change in cluster.changes:
                    if change.name == name and change.version > after:
                        return change
                cluster.changed.wait(0.05)
                if self._is_gone():
                    return None
        return None

    def _is_gone(self) -> bool:
        self.connection.setblocking(False)
        try:
            return not self.connection.recv(1)
        except (ssl.SSLWantReadError, BlockingIOError):
            return False
        except OSError:
            return True
        finally:
            self.connection.setblocking(True)

    def _event(self, kind: str, document: Object) -> None:
        self._chunk(json.dumps({"type": kind, "object": document}).encode() + b"\n")

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        self.wfile.flush()

    def _refuse(self, status: int, reason: str, message: str) -> None:
        """For what a client of ours must never send."""
        self.server.problems.append(message)
        self._fail(Fault(status, f"{reason}: {message}"))

    def _fail(self, fault: Fault) -> None:
        self._answer(fault.status, fault.body or _status(fault.status, fault.reason), fault.headers)

    def _answer(
        self, status: int, content: Object | bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _status(status: int, reason: str, **more: Any) -> Object:
    """A failure in the API's own words."""
    short, _, message = reason.partition(": ")
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": short,
        "message": message or f"the fake says {status}",
        "code": status,
        **more,
    }


def service_account(directory: Path, authority: bytes) -> Path:
    """What the kubelet mounts into a pod."""
    directory.mkdir()
    (directory / "token").write_text(TOKEN, encoding="ascii")
    (directory / "ca.crt").write_bytes(authority)
    return directory
