"""All rules in one place, and what they find."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from sidecar.istio.check import files, loader, templates
from sidecar.istio.check.finding import Finding, Rule
from sidecar.istio.check.located import Node
from sidecar.istio.check.mesh import Mesh
from sidecar.istio.check.objects import Objects
from sidecar.istio.check.rules import (
    authorization,
    clusters,
    containers,
    identity,
    injection,
    listeners,
    modes,
    peers,
    sockets,
    versions,
)

_CHECKS: tuple[Callable[[Mesh], Iterator[Finding]], ...] = (
    peers.peers,
    peers.expectations,
    clusters.clusters,
    clusters.pairs,
    clusters.destinations,
    listeners.chains,
    listeners.selectors,
    identity.identity,
    modes.modes_of_chains,
    modes.competing,
    injection.requests,
    injection.labels,
    injection.native,
    injection.root_proxies,
    containers.security,
    containers.starts,
    containers.mounts,
    containers.environment,
    sockets.sockets,
    versions.images,
    versions.versions,
    authorization.policies,
)
_FAMILIES = (
    files,
    loader,
    templates,
    peers,
    clusters,
    listeners,
    identity,
    modes,
    injection,
    containers,
    sockets,
    versions,
    authorization,
)
# A family may name a rule of another one, too.
RULES: tuple[Rule, ...] = tuple(
    dict.fromkeys(
        each for family in _FAMILIES for each in vars(family).values() if isinstance(each, Rule)
    )
)


def checked(paths: Sequence[Path]) -> list[Finding]:
    """What is wrong with the files together. Reads them, and nothing else."""
    return judged(files.loaded(paths))


def judged(documents: Iterable[Node | Finding]) -> list[Finding]:
    """What is wrong with a set, by file and line; with what was found on reading it."""
    read = list(documents)
    mesh = Mesh(Objects(each for each in read if isinstance(each, Node)))
    found = [each for each in read if isinstance(each, Finding)]
    found += mesh.unreadable_templates
    for check in _CHECKS:
        found += check(mesh)
    return sorted(dict.fromkeys(found), key=lambda each: (each.place, each.rule.name))
