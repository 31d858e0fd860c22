from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HealthRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HealthResponse(_message.Message):
    __slots__ = ("problems",)
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    problems: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, problems: _Optional[_Iterable[str]] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusResponse(_message.Message):
    __slots__ = ("token", "identities", "signed", "refused", "told_to_retry", "sds")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    IDENTITIES_FIELD_NUMBER: _ClassVar[int]
    SIGNED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    TOLD_TO_RETRY_FIELD_NUMBER: _ClassVar[int]
    SDS_FIELD_NUMBER: _ClassVar[int]
    token: TokenStatus
    identities: _containers.RepeatedCompositeFieldContainer[IdentityStatus]
    signed: int
    refused: int
    told_to_retry: int
    sds: SdsStatus
    def __init__(self, token: _Optional[_Union[TokenStatus, _Mapping]] = ..., identities: _Optional[_Iterable[_Union[IdentityStatus, _Mapping]]] = ..., signed: _Optional[int] = ..., refused: _Optional[int] = ..., told_to_retry: _Optional[int] = ..., sds: _Optional[_Union[SdsStatus, _Mapping]] = ...) -> None: ...

class SdsStatus(_message.Message):
    __slots__ = ("streams", "acknowledged", "refused")
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    streams: int
    acknowledged: int
    refused: int
    def __init__(self, streams: _Optional[int] = ..., acknowledged: _Optional[int] = ..., refused: _Optional[int] = ...) -> None: ...

class TokenStatus(_message.Message):
    __slots__ = ("label", "assurance", "signatures", "hung")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    ASSURANCE_FIELD_NUMBER: _ClassVar[int]
    SIGNATURES_FIELD_NUMBER: _ClassVar[int]
    HUNG_FIELD_NUMBER: _ClassVar[int]
    label: str
    assurance: str
    signatures: int
    hung: int
    def __init__(self, label: _Optional[str] = ..., assurance: _Optional[str] = ..., signatures: _Optional[int] = ..., hung: _Optional[int] = ...) -> None: ...

class IdentityStatus(_message.Message):
    __slots__ = ("name", "spiffe_id", "key_id", "generation", "serial", "not_before", "not_after", "next_renewal", "last_error", "subscribers", "key_origin", "health", "authority", "trust", "token", "lease_end")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SPIFFE_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_FIELD_NUMBER: _ClassVar[int]
    NEXT_RENEWAL_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBERS_FIELD_NUMBER: _ClassVar[int]
    KEY_ORIGIN_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_FIELD_NUMBER: _ClassVar[int]
    TRUST_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    LEASE_END_FIELD_NUMBER: _ClassVar[int]
    name: str
    spiffe_id: str
    key_id: bytes
    generation: int
    serial: str
    not_before: int
    not_after: int
    next_renewal: int
    last_error: str
    subscribers: _containers.RepeatedCompositeFieldContainer[SubscriberStatus]
    key_origin: str
    health: str
    authority: str
    trust: _containers.RepeatedCompositeFieldContainer[TrustStatus]
    token: str
    lease_end: int
    def __init__(self, name: _Optional[str] = ..., spiffe_id: _Optional[str] = ..., key_id: _Optional[bytes] = ..., generation: _Optional[int] = ..., serial: _Optional[str] = ..., not_before: _Optional[int] = ..., not_after: _Optional[int] = ..., next_renewal: _Optional[int] = ..., last_error: _Optional[str] = ..., subscribers: _Optional[_Iterable[_Union[SubscriberStatus, _Mapping]]] = ..., key_origin: _Optional[str] = ..., health: _Optional[str] = ..., authority: _Optional[str] = ..., trust: _Optional[_Iterable[_Union[TrustStatus, _Mapping]]] = ..., token: _Optional[str] = ..., lease_end: _Optional[int] = ...) -> None: ...

class TrustStatus(_message.Message):
    __slots__ = ("trust_domain", "roots", "error")
    TRUST_DOMAIN_FIELD_NUMBER: _ClassVar[int]
    ROOTS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    trust_domain: str
    roots: int
    error: str
    def __init__(self, trust_domain: _Optional[str] = ..., roots: _Optional[int] = ..., error: _Optional[str] = ...) -> None: ...

class SubscriberStatus(_message.Message):
    __slots__ = ("acked_generation", "error", "kind", "resource")
    ACKED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    acked_generation: int
    error: str
    kind: str
    resource: str
    def __init__(self, acked_generation: _Optional[int] = ..., error: _Optional[str] = ..., kind: _Optional[str] = ..., resource: _Optional[str] = ...) -> None: ...

class RotateRequest(_message.Message):
    __slots__ = ("identity",)
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    identity: str
    def __init__(self, identity: _Optional[str] = ...) -> None: ...

class RotateResponse(_message.Message):
    __slots__ = ("generation",)
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    generation: int
    def __init__(self, generation: _Optional[int] = ...) -> None: ...
