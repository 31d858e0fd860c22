from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class PrivateKey(_message.Message):
    __slots__ = ("key_id", "schemes")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    SCHEMES_FIELD_NUMBER: _ClassVar[int]
    key_id: bytes
    schemes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, key_id: _Optional[bytes] = ..., schemes: _Optional[_Iterable[int]] = ...) -> None: ...
