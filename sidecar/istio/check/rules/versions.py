"""What is installed: a proxy that can load the module, an Istio that knows how to patch it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sidecar.istio.check.finding import Finding, warning
from sidecar.istio.check.located import Node
from sidecar.istio.check.mesh import Mesh
from sidecar.istio.check.pods import PROXY, Pod

STOCK = warning("stock-proxy", "The proxy's image is Istio's own, or none is named.")
OLD = warning("old-istio", "The set names an Istio older than 1.31.")

_PROXY_IMAGE = "sidecar.istio.io/proxyImage"
_STOCK = re.compile(
    r"(?:(?:docker\.io/|index\.docker\.io/)?istio|gcr\.io/istio-release|registry\.istio\.io/\w+)"
    r"/proxyv2(?:[:@].*)?|proxyv2|auto"
)
_VERSION = re.compile(r"v?(\d+)\.(\d+)(?:[.-].*)?")
_ISTIO_IMAGE = re.compile(r".*/(?:proxyv2|pilot):([^/@]+)(?:@.*)?")
_OLDEST = (1, 31)


def images(mesh: Mesh) -> Iterator[Finding]:
    """Of the proxies beside our container."""
    whole = [each.at("global", "proxy", "image") for each in mesh.charts]
    mesh_wide = next((each for each in whole if each.present), None)
    for pod in mesh.signer_pods:
        proxy = pod.containers.get(PROXY) or Node(pod.place)
        image = proxy.at("image")
        chosen = image if image.present or mesh_wide is None else mesh_wide
        if not chosen.present or _STOCK.fullmatch(chosen.text):
            yield _stock(pod, chosen)
    for pod in mesh.workloads:
        image = pod.annotation(_PROXY_IMAGE)
        if mesh.has_signer(pod) and _STOCK.fullmatch(image.text):
            yield _stock(pod, image)


def _stock(pod: Pod, image: Node) -> Finding:
    what = image.text or "Istio's own image, as none is named,"
    return STOCK.at(
        image.place,
        f"{pod.owner}: {what} has no transport socket of dynamic modules, "
        "so its listeners and clusters with our socket are refused",
        f"set the image of {PROXY} to one that has it: see Dockerfile.istio-proxy",
    )


def versions(mesh: Mesh) -> Iterator[Finding]:
    """Of the control plane and of the proxies, as tags say them."""
    tags = [each.at("global", "tag") for each in mesh.charts]
    tags += [each.spec.at("tag") for each in mesh.objects.of("IstioOperator")]
    told = [(each, each.text) for each in tags]
    for pod in mesh.signer_pods:
        image = (pod.containers.get(PROXY) or Node(pod.place)).at("image")
        if found := _ISTIO_IMAGE.fullmatch(image.text):
            told.append((image, found[1]))
    for node, tag in told:
        if (read := _VERSION.fullmatch(tag)) and (int(read[1]), int(read[2])) < _OLDEST:
            yield OLD.at(
                node.place,
                f"{tag}: this istiod does not know MERGE_AND_REPLACE_LIST, or this proxy no "
                "dynamic modules",
                "use Istio 1.31 or newer",
            )
