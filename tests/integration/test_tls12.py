"""A sidecar and TLS 1.2: off, unless its identity is set to it."""

from __future__ import annotations

import pytest
from cryptography import x509

from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar._proto.meshkey.signer.v1 import signer_pb2_grpc
from sidecar.core.public_key import PublicKey
from tests.fixtures import tls12
from tests.fixtures.mesh import Mesh
from tests.fixtures.requests import sign_request, verify


@pytest.mark.parametrize("allowed", [False, True])
async def test_a_sidecar_signs_tls12_where_it_is_set_and_nowhere_else(
    running_mesh: Mesh, allowed: bool
) -> None:
    name = f"tls12-{allowed}"
    sidecar = running_mesh.start_sidecar(name, identity={"tls12": "true"} if allowed else {})
    real = tls12.handshake()
    async with running_mesh.channel(name) as channel:
        stub = signer_pb2_grpc.SignerStub(channel)
        watch = stub.WatchIdentity()
        await watch.write(pb.WatchRequest())
        update = await watch.read()
        leaf = update.certificate_chain[0]
        public_key = x509.load_der_x509_certificate(leaf).public_key()
        assert isinstance(public_key, PublicKey)
        shown = real.showing(leaf).client_content
        for purpose, message in (
            (pb.PURPOSE_TLS12_SERVER_KEY_EXCHANGE, real.server_content),
            (pb.PURPOSE_TLS12_CLIENT_CERTIFICATE_VERIFY, shown),
        ):
            request = sign_request(update.key_id)
            request.purpose, request.message = purpose, message
            answer = await stub.Sign(request)
            if allowed:
                verify(public_key, request, answer)
            else:
                assert answer.refusal.reason == pb.Refusal.REASON_PURPOSE
        watch.cancel()
    assert sidecar.stop() == 0
