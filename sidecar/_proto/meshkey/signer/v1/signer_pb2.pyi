from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Purpose(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PURPOSE_UNSPECIFIED: _ClassVar[Purpose]
    PURPOSE_TLS13_SERVER_CERTIFICATE_VERIFY: _ClassVar[Purpose]
    PURPOSE_TLS13_CLIENT_CERTIFICATE_VERIFY: _ClassVar[Purpose]
    PURPOSE_TLS12_SERVER_KEY_EXCHANGE: _ClassVar[Purpose]
    PURPOSE_TLS12_CLIENT_CERTIFICATE_VERIFY: _ClassVar[Purpose]
PURPOSE_UNSPECIFIED: Purpose
PURPOSE_TLS13_SERVER_CERTIFICATE_VERIFY: Purpose
PURPOSE_TLS13_CLIENT_CERTIFICATE_VERIFY: Purpose
PURPOSE_TLS12_SERVER_KEY_EXCHANGE: Purpose
PURPOSE_TLS12_CLIENT_CERTIFICATE_VERIFY: Purpose

class WatchRequest(_message.Message):
    __slots__ = ("identity", "acked_generation", "error")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    ACKED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    identity: str
    acked_generation: int
    error: str
    def __init__(self, identity: _Optional[str] = ..., acked_generation: _Optional[int] = ..., error: _Optional[str] = ...) -> None: ...

class IdentityUpdate(_message.Message):
    __slots__ = ("generation", "key_id", "spiffe_id", "certificate_chain", "trust_bundles", "schemes", "not_before", "not_after", "withdrawn", "revoked_key_ids", "denied_peers")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    SPIFFE_ID_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_CHAIN_FIELD_NUMBER: _ClassVar[int]
    TRUST_BUNDLES_FIELD_NUMBER: _ClassVar[int]
    SCHEMES_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWN_FIELD_NUMBER: _ClassVar[int]
    REVOKED_KEY_IDS_FIELD_NUMBER: _ClassVar[int]
    DENIED_PEERS_FIELD_NUMBER: _ClassVar[int]
    generation: int
    key_id: bytes
    spiffe_id: str
    certificate_chain: _containers.RepeatedScalarFieldContainer[bytes]
    trust_bundles: _containers.RepeatedCompositeFieldContainer[TrustBundle]
    schemes: _containers.RepeatedScalarFieldContainer[int]
    not_before: int
    not_after: int
    withdrawn: bool
    revoked_key_ids: _containers.RepeatedScalarFieldContainer[bytes]
    denied_peers: DeniedPeers
    def __init__(self, generation: _Optional[int] = ..., key_id: _Optional[bytes] = ..., spiffe_id: _Optional[str] = ..., certificate_chain: _Optional[_Iterable[bytes]] = ..., trust_bundles: _Optional[_Iterable[_Union[TrustBundle, _Mapping]]] = ..., schemes: _Optional[_Iterable[int]] = ..., not_before: _Optional[int] = ..., not_after: _Optional[int] = ..., withdrawn: _Optional[bool] = ..., revoked_key_ids: _Optional[_Iterable[bytes]] = ..., denied_peers: _Optional[_Union[DeniedPeers, _Mapping]] = ...) -> None: ...

class DeniedPeers(_message.Message):
    __slots__ = ("sequence", "spiffe_ids")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SPIFFE_IDS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    spiffe_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, sequence: _Optional[int] = ..., spiffe_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class TrustBundle(_message.Message):
    __slots__ = ("trust_domain", "roots")
    TRUST_DOMAIN_FIELD_NUMBER: _ClassVar[int]
    ROOTS_FIELD_NUMBER: _ClassVar[int]
    trust_domain: str
    roots: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, trust_domain: _Optional[str] = ..., roots: _Optional[_Iterable[bytes]] = ...) -> None: ...

class SignRequest(_message.Message):
    __slots__ = ("request_id", "key_id", "scheme", "purpose", "message")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    SCHEME_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    key_id: bytes
    scheme: int
    purpose: Purpose
    message: bytes
    def __init__(self, request_id: _Optional[int] = ..., key_id: _Optional[bytes] = ..., scheme: _Optional[int] = ..., purpose: _Optional[_Union[Purpose, str]] = ..., message: _Optional[bytes] = ...) -> None: ...

class SignRequests(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[SignRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[SignRequest, _Mapping]]] = ...) -> None: ...

class SignResponse(_message.Message):
    __slots__ = ("request_id", "signature", "refusal", "retry")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    RETRY_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    signature: bytes
    refusal: Refusal
    retry: Retry
    def __init__(self, request_id: _Optional[int] = ..., signature: _Optional[bytes] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ..., retry: _Optional[_Union[Retry, _Mapping]] = ...) -> None: ...

class SignResponses(_message.Message):
    __slots__ = ("responses",)
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    responses: _containers.RepeatedCompositeFieldContainer[SignResponse]
    def __init__(self, responses: _Optional[_Iterable[_Union[SignResponse, _Mapping]]] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("reason", "detail")
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REASON_UNSPECIFIED: _ClassVar[Refusal.Reason]
        REASON_UNKNOWN_KEY: _ClassVar[Refusal.Reason]
        REASON_SCHEME: _ClassVar[Refusal.Reason]
        REASON_PURPOSE: _ClassVar[Refusal.Reason]
        REASON_MESSAGE: _ClassVar[Refusal.Reason]
        REASON_LEASE: _ClassVar[Refusal.Reason]
    REASON_UNSPECIFIED: Refusal.Reason
    REASON_UNKNOWN_KEY: Refusal.Reason
    REASON_SCHEME: Refusal.Reason
    REASON_PURPOSE: Refusal.Reason
    REASON_MESSAGE: Refusal.Reason
    REASON_LEASE: Refusal.Reason
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    reason: Refusal.Reason
    detail: str
    def __init__(self, reason: _Optional[_Union[Refusal.Reason, str]] = ..., detail: _Optional[str] = ...) -> None: ...

class Retry(_message.Message):
    __slots__ = ("reason", "detail")
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REASON_UNSPECIFIED: _ClassVar[Retry.Reason]
        REASON_TOKEN_UNAVAILABLE: _ClassVar[Retry.Reason]
        REASON_BUSY: _ClassVar[Retry.Reason]
    REASON_UNSPECIFIED: Retry.Reason
    REASON_TOKEN_UNAVAILABLE: Retry.Reason
    REASON_BUSY: Retry.Reason
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    reason: Retry.Reason
    detail: str
    def __init__(self, reason: _Optional[_Union[Retry.Reason, str]] = ..., detail: _Optional[str] = ...) -> None: ...
