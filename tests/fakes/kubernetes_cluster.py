"""The objects of a cluster, their versions, and the people and programs that change them."""

from __future__ import annotations

import base64
import copy
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from sidecar.errors import AuthorityError
from tests.fakes.authority import FakeAuthority
from tests.fakes.kubernetes_rules import request_of

Object = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """What a watch tells: at `version`, this happened to the object `name`."""

    version: int
    kind: str
    name: str
    document: Object


class Cluster:
    """CertificateSigningRequests, as etcd holds them, and a signer. Safe to use from any thread."""

    def __init__(self, signer: FakeAuthority) -> None:
        self._signer = signer
        self._objects: dict[str, Object] = {}
        self._version = 1000
        self.changes: list[Change] = []
        self.changed = threading.Condition(threading.RLock())
        # Called with the name of each object that was created.
        self.react: Callable[[str], object] = str
        # ClusterTrustBundles: version of the API, then name, then PEM.
        self.bundles: dict[str, dict[str, str]] = {"v1": {}, "v1beta1": {}}

    @property
    def names(self) -> list[str]:
        with self.changed:
            return list(self._objects)

    def read(self, name: str) -> Object | None:
        with self.changed:
            return copy.deepcopy(self._objects.get(name))

    def create(self, body: Object) -> Object | None:
        """The object as it was created; `None` if the name is taken."""
        name = body["metadata"]["name"]
        with self.changed:
            if name in self._objects:
                return None
            created = copy.deepcopy(body)
            created["metadata"]["uid"] = str(uuid.uuid4())
            created["spec"]["username"] = "system:serviceaccount:mesh:web"
            created["status"] = {}
            self._objects[name] = created
            self._record("ADDED", name)
            answer = copy.deepcopy(created)
        self.react(name)
        return answer

    def delete(self, name: str) -> None:
        with self.changed:
            self._record("DELETED", name)
            del self._objects[name]

    def approve(self, name: str) -> None:
        self.condition(name, "Approved", "Approver", "looks fine")

    def deny(self, name: str) -> None:
        self.condition(name, "Denied", "WrongNamespace", "not in\nthis cluster")

    def condition(self, name: str, kind: str, reason: str, message: str) -> None:
        condition = {"type": kind, "status": "True", "reason": reason, "message": message}
        with self.changed:
            self._objects[name]["status"].setdefault("conditions", []).append(condition)
            self._record("MODIFIED", name)

    def touch(self, name: str) -> None:
        """A change that says nothing."""
        with self.changed:
            self._objects[name]["metadata"].setdefault("labels", {})["seen"] = "yes"
            self._record("MODIFIED", name)

    def issue(self, name: str, pem: bytes | None = None) -> None:
        """Signs, or puts `pem` where the certificate belongs."""
        with self.changed:
            certificate = self._signed(name) if pem is None else pem
            self._objects[name]["status"]["certificate"] = base64.b64encode(certificate).decode()
            self._record("MODIFIED", name)

    def approve_and_issue(self, name: str) -> None:
        """What an approver and a signer do who look at what they are asked."""
        self.approve(name)
        try:
            self.issue(name)
        except AuthorityError as error:
            self.condition(name, "Failed", "SignerValidationFailure", str(error))

    def _signed(self, name: str) -> bytes:
        document = self._objects[name]
        request = request_of(document)
        assert request is not None
        lifetime = timedelta(seconds=document["spec"]["expirationSeconds"])
        leaf = self._signer._leaf(request.public_bytes(Encoding.DER), lifetime)
        return b"issued by the fake\n" + leaf.public_bytes(Encoding.PEM) + self._signer.root.pem

    def _record(self, kind: str, name: str) -> None:
        self._version += 1
        document = self._objects[name]
        document["metadata"]["resourceVersion"] = str(self._version)
        self.changes.append(Change(self._version, kind, name, copy.deepcopy(document)))
        self.changed.notify_all()
