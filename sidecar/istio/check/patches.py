"""What EnvoyFilters patch, and the module's transport sockets in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sidecar.istio.check.loader import load
from sidecar.istio.check.located import Node, Place
from sidecar.istio.check.objects import Object, Objects
from sidecar.istio.check.templates import within

_MODULE = "meshkey"
_SOCKET, _MATCHES = "transport_socket", "transport_socket_matches"
_CAPITAL = re.compile(r"(?<=[a-z0-9])([A-Z])")


@dataclass(frozen=True)
class Socket:
    """A transport socket of the module: `settings` are explained in docs/envoy-module.md."""

    place: Place
    settings: Node


@dataclass(frozen=True, eq=False)
class Patch:
    """One of an EnvoyFilter's `configPatches`."""

    filter: Object
    node: Node

    @property
    def place(self) -> Place:
        return self.node.at("applyTo").place

    @property
    def apply_to(self) -> str:
        return self.node.at("applyTo").text

    @property
    def operation(self) -> str:
        return self.node.at("patch", "operation").text

    @property
    def context(self) -> str:
        return self.node.at("match", "context").text or "ANY"

    @property
    def cluster(self) -> Node:
        return self.node.at("match", "cluster")

    @property
    def listener(self) -> Node:
        return self.node.at("match", "listener")

    @cached_property
    def chains(self) -> tuple[str, Any]:
        """Which filter chains are selected, whatever filter is on them: to compare by."""
        listener = {key: each.plain for key, each in self.listener.fields.items()}
        chain = self.listener.at("filterChain").fields.items()
        listener["filterChain"] = {key: each.plain for key, each in chain if key != "filter"}
        return self.context, listener

    @cached_property
    def value(self) -> Node:
        """Protobuf's names as they are in .proto files: Envoy and Istio read both spellings."""
        return _snake_case(self.node.at("patch", "value"))

    @cached_property
    def socket(self) -> Socket | None:
        """For all connections of a chain or cluster."""
        return _socket(self.value.at(_SOCKET))

    @cached_property
    def matched_sockets(self) -> tuple[Socket, ...]:
        """By an endpoint's labels."""
        found = (_socket(each.at(_SOCKET)) for each in self.value.at(_MATCHES).items)
        return tuple(each for each in found if each)

    @property
    def sockets(self) -> tuple[Socket, ...]:
        return (*((self.socket,) if self.socket else ()), *self.matched_sockets)

    @property
    def selector(self) -> Mapping[str, str]:
        return self.filter.spec.at("workloadSelector", "labels").texts


def patches(objects: Objects) -> Iterator[Patch]:
    """Of every EnvoyFilter, in its order."""
    for each in objects.of("EnvoyFilter"):
        for node in each.spec.at("configPatches").items:
            yield Patch(each, node)


def typed(node: Node) -> Node:
    """An extension's configuration, also where it is in a TypedStruct."""
    configuration = node.at("typed_config")
    if configuration.at("type_url").present:
        return configuration.at("value")
    return configuration


def _socket(node: Node) -> Socket | None:
    configuration = typed(node)
    named = configuration.at(f"{_SOCKET}_name").text
    module = configuration.at("dynamic_module_config", "name").text
    if _MODULE not in {named, module}:
        return None
    return Socket(node.at("name").place, _settings(configuration.at(f"{_SOCKET}_config")))


def _settings(node: Node) -> Node:
    """A Struct, or JSON in a text."""
    value = node.at("value")
    if isinstance(value.value, str):
        read = next(load(value.value, within(value)), None)
        return read if isinstance(read, Node) else Node(value.place)
    return value


def _is_settings(key: str, node: Node) -> bool:
    """Of an extension, as a Struct or a text. A TypedStruct has protobuf's fields in it."""
    typed_struct = node.at("type_url").present or node.at("typeUrl").present
    return key.lower().endswith("_config") and node.at("value").present and not typed_struct


def _snake_case(node: Node) -> Node:
    if isinstance(node.value, Mapping):
        fields = {
            _CAPITAL.sub(r"_\1", key).lower() if key[:1].islower() else key: (
                # The module's own settings are not protobuf's.
                each if _is_settings(key, each) else _snake_case(each)
            )
            for key, each in node.value.items()
        }
        return Node(node.place, fields)
    if isinstance(node.value, tuple):
        return Node(node.place, tuple(_snake_case(each) for each in node.value))
    return node
