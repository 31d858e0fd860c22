"""Service account tokens, and their review by the API server of the cluster."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from datetime import datetime, timedelta

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from tests.fixtures import certificates

AUDIENCE = "istio-ca"
ISSUER = "https://kubernetes.default.svc.cluster.local"
_ES256 = {"alg": "ES256", "kid": "test"}


class TokenRefused(Exception):
    """With the reason that the API server tells the CA, not the CA's client."""


class TokenIssuer:
    """The token side of one cluster's API server (RFC 7519, RFC 7515)."""

    def __init__(self) -> None:
        self._key = certificates.new_key()

    def token(
        self,
        at: datetime,
        *,
        user: str = "system:serviceaccount:test:web",
        audience: str = AUDIENCE,
        lifetime: timedelta = timedelta(hours=12),
        **claims: object,
    ) -> str:
        payload = {
            "iss": ISSUER,
            "sub": user,
            "aud": [audience],
            "iat": int(at.timestamp()),
            "exp": int((at + lifetime).timestamp()),
            **claims,
        }
        signed = f"{_encoded(_ES256)}.{_encoded(payload)}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_base64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def reviewed(self, token: str, audience: str, now: datetime) -> tuple[str, str]:
        """Namespace and name of the service account whose token it is."""
        claims = self._claims(token)
        if claims.get("iss") != ISSUER:
            raise TokenRefused("the issuer is not this cluster")
        if audience not in _strings(claims.get("aud")):
            raise TokenRefused("the audience is another one")
        expires = claims.get("exp")
        if not isinstance(expires, int) or now.timestamp() >= expires:
            raise TokenRefused("the token has expired")
        parts = str(claims.get("sub")).split(":")
        if len(parts) != 4 or parts[:2] != ["system", "serviceaccount"]:
            raise TokenRefused("the token is no service account's")
        return parts[2], parts[3]

    def _claims(self, token: str) -> Mapping[str, object]:
        try:
            signed, _, signature = token.rpartition(".")
            header, payload = map(_decoded, signed.split("."))
            raw = _bytes(signature)
        except (ValueError, binascii.Error) as error:
            raise TokenRefused("the token is no JWT") from error
        if header != _ES256 or len(raw) != 64:
            raise TokenRefused("the token is signed in another way")
        numbers = (int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
        try:
            self._key.public_key().verify(
                encode_dss_signature(*numbers), signed.encode(), ec.ECDSA(hashes.SHA256())
            )
        except InvalidSignature as error:
            raise TokenRefused("the token's signature is wrong") from error
        return payload


def _strings(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def _encoded(value: Mapping[str, object]) -> str:
    return _base64(json.dumps(value).encode())


def _decoded(part: str) -> Mapping[str, object]:
    value = json.loads(_bytes(part))
    if not isinstance(value, dict):
        raise TokenRefused("the token is no JWT")
    return value


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
