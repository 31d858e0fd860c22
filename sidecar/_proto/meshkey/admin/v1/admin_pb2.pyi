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
    __slots__ = ("token", "identities", "signed", "refused", "told_to_retry", "sds", "deny_list")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    IDENTITIES_FIELD_NUMBER: _ClassVar[int]
    SIGNED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    TOLD_TO_RETRY_FIELD_NUMBER: _ClassVar[int]
    SDS_FIELD_NUMBER: _ClassVar[int]
    DENY_LIST_FIELD_NUMBER: _ClassVar[int]
    token: TokenStatus
    identities: _containers.RepeatedCompositeFieldContainer[IdentityStatus]
    signed: int
    refused: int
    told_to_retry: int
    sds: SdsStatus
    deny_list: DenyListStatus
    def __init__(self, token: _Optional[_Union[TokenStatus, _Mapping]] = ..., identities: _Optional[_Iterable[_Union[IdentityStatus, _Mapping]]] = ..., signed: _Optional[int] = ..., refused: _Optional[int] = ..., told_to_retry: _Optional[int] = ..., sds: _Optional[_Union[SdsStatus, _Mapping]] = ..., deny_list: _Optional[_Union[DenyListStatus, _Mapping]] = ...) -> None: ...

class DenyListStatus(_message.Message):
    __slots__ = ("sequence", "issued_at", "next_update", "entries", "overdue", "error", "refused")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_FIELD_NUMBER: _ClassVar[int]
    NEXT_UPDATE_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    OVERDUE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    issued_at: int
    next_update: int
    entries: int
    overdue: str
    error: str
    refused: int
    def __init__(self, sequence: _Optional[int] = ..., issued_at: _Optional[int] = ..., next_update: _Optional[int] = ..., entries: _Optional[int] = ..., overdue: _Optional[str] = ..., error: _Optional[str] = ..., refused: _Optional[int] = ...) -> None: ...

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
    __slots__ = ("name", "spiffe_id", "key_id", "generation", "serial", "not_before", "not_after", "next_renewal", "last_error", "subscribers", "key_origin", "health", "authority", "trust", "token", "lease_end", "deprovisioned_at")
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
    DEPROVISIONED_AT_FIELD_NUMBER: _ClassVar[int]
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
    deprovisioned_at: int
    def __init__(self, name: _Optional[str] = ..., spiffe_id: _Optional[str] = ..., key_id: _Optional[bytes] = ..., generation: _Optional[int] = ..., serial: _Optional[str] = ..., not_before: _Optional[int] = ..., not_after: _Optional[int] = ..., next_renewal: _Optional[int] = ..., last_error: _Optional[str] = ..., subscribers: _Optional[_Iterable[_Union[SubscriberStatus, _Mapping]]] = ..., key_origin: _Optional[str] = ..., health: _Optional[str] = ..., authority: _Optional[str] = ..., trust: _Optional[_Iterable[_Union[TrustStatus, _Mapping]]] = ..., token: _Optional[str] = ..., lease_end: _Optional[int] = ..., deprovisioned_at: _Optional[int] = ...) -> None: ...

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

class KeysRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class KeysResponse(_message.Message):
    __slots__ = ("keys",)
    KEYS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[LiveKey]
    def __init__(self, keys: _Optional[_Iterable[_Union[LiveKey, _Mapping]]] = ...) -> None: ...

class LiveKey(_message.Message):
    __slots__ = ("key_id", "identity", "state", "origin", "not_after", "generation")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    key_id: bytes
    identity: str
    state: str
    origin: str
    not_after: int
    generation: int
    def __init__(self, key_id: _Optional[bytes] = ..., identity: _Optional[str] = ..., state: _Optional[str] = ..., origin: _Optional[str] = ..., not_after: _Optional[int] = ..., generation: _Optional[int] = ...) -> None: ...

class RevokeRequest(_message.Message):
    __slots__ = ("key_id",)
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    key_id: bytes
    def __init__(self, key_id: _Optional[bytes] = ...) -> None: ...

class DeprovisionRequest(_message.Message):
    __slots__ = ("identity",)
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    identity: str
    def __init__(self, identity: _Optional[str] = ...) -> None: ...

class ReinstateRequest(_message.Message):
    __slots__ = ("identity",)
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    identity: str
    def __init__(self, identity: _Optional[str] = ...) -> None: ...

class ReinstateResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EndResponse(_message.Message):
    __slots__ = ("identity", "destroyed", "spared", "certificates", "tombstone", "problems")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    DESTROYED_FIELD_NUMBER: _ClassVar[int]
    SPARED_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATES_FIELD_NUMBER: _ClassVar[int]
    TOMBSTONE_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    identity: str
    destroyed: _containers.RepeatedScalarFieldContainer[bytes]
    spared: _containers.RepeatedScalarFieldContainer[bytes]
    certificates: _containers.RepeatedCompositeFieldContainer[StillValid]
    tombstone: str
    problems: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, identity: _Optional[str] = ..., destroyed: _Optional[_Iterable[bytes]] = ..., spared: _Optional[_Iterable[bytes]] = ..., certificates: _Optional[_Iterable[_Union[StillValid, _Mapping]]] = ..., tombstone: _Optional[str] = ..., problems: _Optional[_Iterable[str]] = ...) -> None: ...

class StillValid(_message.Message):
    __slots__ = ("key_id", "serial", "issuer", "not_after")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_FIELD_NUMBER: _ClassVar[int]
    key_id: bytes
    serial: str
    issuer: str
    not_after: int
    def __init__(self, key_id: _Optional[bytes] = ..., serial: _Optional[str] = ..., issuer: _Optional[str] = ..., not_after: _Optional[int] = ...) -> None: ...

class ReloadRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReloadResponse(_message.Message):
    __slots__ = ("changed", "configuration_sha256")
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    CONFIGURATION_SHA256_FIELD_NUMBER: _ClassVar[int]
    changed: _containers.RepeatedScalarFieldContainer[str]
    configuration_sha256: str
    def __init__(self, changed: _Optional[_Iterable[str]] = ..., configuration_sha256: _Optional[str] = ...) -> None: ...
