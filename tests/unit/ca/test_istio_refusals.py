"""Every refusal of every kind of CA, as the client sees it and as the CA's log has it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_address

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sidecar._proto.third_party import istio_ca_pb2
from sidecar.ca.istio import IstioAuthority
from sidecar.errors import AuthorityError, AuthorityUnavailable, Retryable
from tests.fakes.istio_ca import CLUSTER_ID, SERVER_NAME, ClientFiles, IstioCa
from tests.fakes.istio_pki import now
from tests.fakes.istio_rules import IstioCsr, Istiod, IstiodRa, Rules
from tests.fakes.service_account_tokens import TokenIssuer
from tests.fixtures import certificates
from tests.fixtures.mesh import spiffe_id
from tests.unit.ca.conftest import NewClient

HOUR = timedelta(hours=1)
KEY = certificates.new_key()
ID = x509.UniformResourceIdentifier(spiffe_id())
OTHER_ID = x509.UniformResourceIdentifier(spiffe_id("db"))
DNS = x509.DNSName("web.test.svc")
IP = x509.IPAddress(ip_address("10.0.0.1"))
EMAIL = x509.RFC822Name("web@test.mesh")
TLS_USAGES = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]


def _csr(
    *names: x509.GeneralName,
    subject: dict[x509.ObjectIdentifier, str] | None = None,
    extensions: tuple[x509.ExtensionType, ...] = (),
    key: ec.EllipticCurvePrivateKey = KEY,
) -> bytes:
    attributes = [x509.NameAttribute(oid, value) for oid, value in (subject or {}).items()]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def _forged() -> bytes:
    good = bytearray(_csr(ID))
    good[-1] ^= 1  # the signature comes last
    return bytes(good)


GOOD = _csr(ID)
GARBAGE = b"no request"
FORGED = _forged()
COMMON_NAME = _csr(ID, subject={NameOID.COMMON_NAME: "web"})
ORGANIZATION = _csr(ID, subject={NameOID.ORGANIZATION_NAME: "test"})
NO_NAME = _csr()
OTHER_CURVE = _csr(ID, key=ec.generate_private_key(ec.SECP256K1()))
SIGN = x509.KeyUsage(*[True, *[False] * 8])
SIGN_CERTIFICATES = certificates.key_usage("key_cert_sign")
CA = x509.BasicConstraints(ca=True, path_length=None)


def _row(rules: Callable[[], Rules], csr: bytes, reason: str, name: str) -> object:
    return pytest.param(rules(), csr, reason, id=f"{rules.__name__}-{name}")


BEFORE_1_26 = IstiodRa(since_1_26=False)
SIGNERS = IstiodRa(signer_domain="clusterissuers.cert-manager.io", signers=("mesh",))

INVALID = [
    _row(Istiod, GARBAGE, "the CSR cannot be parsed", "garbage"),
    _row(Istiod, FORGED, "the CSR is not signed by its key", "forged"),
    _row(Istiod, OTHER_CURVE, "the CSR's key is of an unknown kind", "curve"),
    _row(IstiodRa, GARBAGE, "the CSR cannot be parsed", "garbage"),
    _row(IstiodRa, FORGED, "the CSR is not signed by its key", "forged"),
    _row(IstiodRa, OTHER_CURVE, "the CSR's key is of an unknown kind", "curve"),
    _row(IstiodRa, NO_NAME, "no subject alternative name", "no name"),
    _row(IstiodRa, _csr(OTHER_ID), "a name that is not the caller's", "other"),
    _row(IstiodRa, _csr(ID, OTHER_ID), "a name that is not the caller's", "one more"),
    _row(IstiodRa, _csr(ID, ID), "more than one URI", "twice"),
    _row(IstiodRa, _csr(ID, DNS), "a name that is not the caller's", "DNS"),
    _row(IstiodRa, _csr(ID, IP), "a name that is not the caller's", "IP"),
    _row(IstiodRa, _csr(ID, EMAIL), "a name that is not the caller's", "email"),
    _row(IstiodRa, COMMON_NAME, "more than an organization in the subject", "common name"),
    _row(IstiodRa, ORGANIZATION, "the organization is not empty", "organization"),
    _row(IstiodRa, _csr(ID, extensions=(SIGN,)), "another extension", "usage"),
    _row(IstiodRa, _csr(ID, extensions=(CA,)), "another extension", "CA"),
    pytest.param(BEFORE_1_26, GOOD, "no organization in the subject", id="IstiodRa-before 1.26"),
]

UNKNOWN_CALLER = [
    _row(IstioCsr, GARBAGE, "the CSR cannot be parsed", "garbage"),
    _row(IstioCsr, FORGED, "the CSR is not signed by its key", "forged"),
    _row(IstioCsr, OTHER_CURVE, "the CSR's key is of an unknown kind", "curve"),
    _row(IstioCsr, NO_NAME, "the URIs are not the caller's", "no name"),
    _row(IstioCsr, _csr(OTHER_ID), "the URIs are not the caller's", "other"),
    _row(IstioCsr, _csr(ID, OTHER_ID), "the URIs are not the caller's", "one more"),
    _row(IstioCsr, _csr(ID, ID), "the URIs are not the caller's", "twice"),
    _row(IstioCsr, _csr(ID, DNS), "a name that is no URI", "DNS"),
    _row(IstioCsr, _csr(ID, IP), "a name that is no URI", "IP"),
    _row(IstioCsr, _csr(ID, EMAIL), "a name that is no URI", "email"),
    _row(IstioCsr, COMMON_NAME, "a common name", "common name"),
    _row(IstioCsr, _csr(ID, extensions=(CA,)), "a forbidden extension", "CA"),
    _row(IstioCsr, _csr(ID, extensions=(SIGN_CERTIFICATES,)), "a forbidden extension", "CA use"),
    _row(
        IstioCsr,
        _csr(ID, extensions=(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]),)),
        "a forbidden extension",
        "code signing",
    ),
]

# Istio's codes say "ask again", although it would be of no use.
UNSIGNED = [
    _row(
        IstioCsr,
        _csr(ID, extensions=(SIGN,)),
        "cert-manager wants the request's usages to be those of its object",
        "usage",
    ),
    _row(
        IstioCsr,
        _csr(ID, extensions=(x509.ExtendedKeyUsage(TLS_USAGES[:1]),)),
        "cert-manager wants the request's usages to be those of its object",
        "half of the usages",
    ),
]

ACCEPTED = [
    _row(Istiod, NO_NAME, "", "no name"),
    _row(Istiod, _csr(OTHER_ID, DNS), "", "other names"),
    _row(Istiod, COMMON_NAME, "", "common name"),
    _row(IstiodRa, GOOD, "", "good"),
    _row(IstioCsr, GOOD, "", "good"),
    _row(IstioCsr, ORGANIZATION, "", "organization"),
    _row(IstioCsr, _csr(ID, extensions=(x509.ExtendedKeyUsage(TLS_USAGES),)), "", "usages"),
]


@pytest.mark.parametrize(("rules", "csr", "reason"), INVALID)
async def test_a_request_that_istiod_does_not_sign(
    client: IstioAuthority, ca: IstioCa, csr: bytes, reason: str
) -> None:
    await _refused(client, csr, HOUR, "INVALID_ARGUMENT: CSR signing error")
    assert ca.reasons == [reason]


@pytest.mark.parametrize(("rules", "csr", "reason"), UNKNOWN_CALLER)
async def test_a_request_that_istio_csr_does_not_sign(
    client: IstioAuthority, ca: IstioCa, csr: bytes, reason: str
) -> None:
    await _refused(client, csr, HOUR, "UNAUTHENTICATED: request authenticate failure")
    assert ca.reasons == [reason]


@pytest.mark.parametrize(("rules", "csr", "reason"), UNSIGNED)
async def test_a_request_that_nobody_signs_for_istio_csr(
    client: IstioAuthority, ca: IstioCa, csr: bytes, reason: str
) -> None:
    with pytest.raises(AuthorityUnavailable, match="INTERNAL: failed to sign"):
        await client.sign(csr, HOUR)
    assert set(ca.reasons) == {reason}


@pytest.mark.parametrize(("rules", "csr", "_reason"), ACCEPTED)
async def test_a_request_that_is_signed(
    client: IstioAuthority, ca: IstioCa, csr: bytes, _reason: str
) -> None:
    leaf, *_ = await client.sign(csr, HOUR)
    certificate = x509.load_der_x509_certificate(leaf)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [ID]
    assert ca.reasons == []


@pytest.mark.parametrize("rules", [Istiod(), IstiodRa()])
async def test_istiod_refuses_more_than_its_maximum(client: IstioAuthority, ca: IstioCa) -> None:
    days = timedelta(days=90)
    await _refused(client, GOOD, days + timedelta(seconds=1), "INVALID_ARGUMENT: CSR signing")
    assert ca.reasons == ["the TTL is above the maximum"]
    assert await client.sign(GOOD, days)


@pytest.mark.parametrize("rules", [IstioCsr()])
async def test_istio_csr_gives_its_maximum(client: IstioAuthority) -> None:
    leaf, *_ = await client.sign(GOOD, timedelta(days=91))
    certificate = x509.load_der_x509_certificate(leaf)
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == HOUR


@pytest.mark.parametrize("rules", [IstiodRa()])
async def test_the_kubernetes_api_refuses_less_than_ten_minutes(
    client: IstioAuthority, ca: IstioCa
) -> None:
    with pytest.raises(AuthorityUnavailable, match=r"INTERNAL: .*below 600"):
        await client.sign(GOOD, timedelta(seconds=599))
    assert len(ca.calls) == 6
    assert await client.sign(GOOD, timedelta(seconds=600))


@pytest.mark.parametrize("rules", [SIGNERS])
async def test_a_signer_of_the_ra_mode_is_asked_by_name(new_client: NewClient, ca: IstioCa) -> None:
    assert len(await new_client(cert_signer="mesh").sign(GOOD, HOUR)) == 3
    with pytest.raises(AuthorityUnavailable, match=r"INTERNAL: .*nobody signed"):
        await new_client(cert_signer="other").sign(GOOD, HOUR)


@pytest.mark.parametrize("rules", [IstiodRa()])
async def test_a_signer_without_a_domain_is_refused(new_client: NewClient, ca: IstioCa) -> None:
    with pytest.raises(AuthorityUnavailable, match=r"INTERNAL: .*needs a signer domain"):
        await new_client(cert_signer="mesh").sign(GOOD, HOUR)


ALL = [Istiod(), IstiodRa(), IstioCsr()]
YESTERDAY = timedelta(days=-1)

TOKENS: dict[str, tuple[Callable[[TokenIssuer], str], str]] = {
    "no JWT": (lambda _issuer: "abc", "the token is no JWT"),
    "no base64": (lambda _issuer: "a.b.c", "the token is no JWT"),
    "no object": (lambda _issuer: "MQ.MQ.MQ", "the token is no JWT"),
    "unsigned": (
        lambda issuer: issuer.token(now()).rpartition(".")[0] + ".",
        "the token is signed in another way",
    ),
    "other cluster": (lambda _issuer: TokenIssuer().token(now()), "the token's signature is wrong"),
    "expired": (lambda issuer: issuer.token(now() + YESTERDAY), "the token has expired"),
    "audience": (
        lambda issuer: issuer.token(now(), audience="kubernetes"),
        "the audience is another one",
    ),
    "issuer": (lambda issuer: issuer.token(now(), iss="x"), "the issuer is not this cluster"),
    "node": (
        lambda issuer: issuer.token(now(), user="system:node:worker"),
        "the token is no service account's",
    ),
}


@pytest.mark.parametrize("rules", ALL)
@pytest.mark.parametrize("kind", TOKENS)
async def test_a_token_that_is_not_known(
    client: IstioAuthority, ca: IstioCa, files: ClientFiles, kind: str
) -> None:
    make, reason = TOKENS[kind]
    files.token.write_text(make(ca.tokens))
    await _refused(client, GOOD, HOUR, "UNAUTHENTICATED: request authenticate failure")
    assert ca.reasons == [reason]


@pytest.mark.parametrize("rules", ALL)
async def test_a_cluster_that_is_not_known(new_client: NewClient, ca: IstioCa) -> None:
    client = new_client(cluster_id="other")
    await _refused(client, GOOD, HOUR, "UNAUTHENTICATED: request authenticate failure")
    assert ca.reasons == ["an unknown cluster"]


@pytest.mark.parametrize("rules", [IstiodRa(), IstioCsr()])
async def test_another_service_accounts_token(
    client: IstioAuthority, ca: IstioCa, files: ClientFiles
) -> None:
    files.token.write_text(ca.tokens.token(now(), user="system:serviceaccount:test:db"))
    with pytest.raises(AuthorityError, match=r"INVALID_ARGUMENT|UNAUTHENTICATED"):
        await client.sign(GOOD, HOUR)
    (reason,) = ca.reasons
    assert "not the caller's" in reason


@pytest.mark.parametrize("rules", ALL)
@pytest.mark.parametrize(
    ("bearer", "wishes", "reason"),
    [
        pytest.param(False, {}, "no bearer token", id="no token"),
        pytest.param(
            True,
            {"ImpersonatedIdentity": spiffe_id("db")},
            "nobody may act for others here",
            id="for another",
        ),
    ],
)
async def test_what_the_client_never_sends_is_refused_too(
    ca: IstioCa, files: ClientFiles, bearer: bool, wishes: dict[str, str], reason: str
) -> None:
    request = istio_ca_pb2.CertificateRequest(csr=_pem(GOOD), validity_duration=3600)
    request.metadata.update(wishes)
    metadata = [("clusterid", CLUSTER_ID)]
    if bearer:
        metadata.append(("authorization", f"Bearer {files.token.read_text().strip()}"))
    async with _channel(ca) as channel:
        create: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/istio.v1.auth.IstioCertificateService/CreateCertificate"
        )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await create(request.SerializeToString(), metadata=tuple(metadata))
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert ca.reasons == [reason]


def _channel(ca: IstioCa) -> grpc.aio.Channel:
    return grpc.aio.secure_channel(
        f"127.0.0.1:{ca.port}",
        grpc.ssl_channel_credentials(ca.serving.root.pem),
        options=[("grpc.ssl_target_name_override", SERVER_NAME)],
    )


async def _refused(client: IstioAuthority, csr: bytes, lifetime: timedelta, told: str) -> None:
    with pytest.raises(AuthorityError, match=told) as refused:
        await client.sign(csr, lifetime)
    assert not isinstance(refused.value, Retryable)


def _pem(csr: bytes) -> str:
    return x509.load_der_x509_csr(csr).public_bytes(Encoding.PEM).decode()
