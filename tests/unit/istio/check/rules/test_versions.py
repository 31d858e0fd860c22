from __future__ import annotations

import pytest

from tests.fixtures.marked import found, marked
from tests.unit.istio.check.rules.test_containers import GOOD
from tests.unit.istio.check.rules.texts import workload

IMAGE = "image: registry.example/proxyv2-meshkey:1.32.0"


@pytest.mark.parametrize(
    "image",
    [
        "docker.io/istio/proxyv2:1.31.0",
        "istio/proxyv2:1.32.0-distroless",
        "gcr.io/istio-release/proxyv2:1.31.1",
        "registry.istio.io/release/proxyv2@sha256:00",
        "auto",
    ],
)
def test_a_stock_proxy_is_found(image: str) -> None:
    bad = GOOD.replace(IMAGE, f"image: {image} # << stock-proxy")
    assert found(bad) == marked(bad)


@pytest.mark.parametrize(
    "image", ["registry.example/istio/proxyv2:1.31.0", "docker.io/bank/proxyv2-meshkey:1.32.0"]
)
def test_an_image_of_ones_own_is_right(image: str) -> None:
    assert found(GOOD.replace(IMAGE, f"image: {image}")) == set()


def test_no_image_is_found() -> None:
    bad = GOOD.replace(f"    {IMAGE}\n", "")
    bad = bad.replace("- name: istio-proxy\n", "- name: istio-proxy # << stock-proxy\n")
    assert found(bad) == marked(bad)


def test_the_meshs_image_counts_where_the_pod_has_none() -> None:
    without = GOOD.replace(f"    {IMAGE}\n", "")
    chart = "global:\n  proxy:\n    image: "
    assert found(without, f"{chart}registry.example/proxyv2-meshkey:1\n") == set()
    bad = f"{chart}proxyv2 # << stock-proxy\n"
    assert found(bad, without) == marked(bad)


def test_a_pod_that_asks_for_a_stock_proxy_is_found() -> None:
    annotation = "        sidecar.istio.io/proxyImage: "
    bad = workload(metadata=f"{annotation}istio/proxyv2:1.31.0 # << stock-proxy\n")
    assert found(bad) == marked(bad)
    assert found(workload(metadata=f"{annotation}registry.example/proxy:1\n")) == set()


@pytest.mark.parametrize("tag", ["1.30.4", "1.9.0", "v1.29", "1.30-dev"])
def test_an_older_istio_is_found(tag: str) -> None:
    operator = f'kind: IstioOperator\nspec:\n  tag: "{tag}" # << old-istio\n'
    assert found(operator) == marked(operator)
    chart = f'global:\n  tag: "{tag}" # << old-istio\n'
    assert found(chart) == marked(chart)
    bad = GOOD.replace(IMAGE, f"image: registry.example/proxyv2:{tag} # << old-istio")
    assert found(bad) == marked(bad)


@pytest.mark.parametrize("tag", ["1.31.0", "1.32-alpha.0", "2.0.0", "latest", "mine-1.2"])
def test_a_newer_istio_or_one_that_cannot_be_told_is_right(tag: str) -> None:
    assert found(f'kind: IstioOperator\nspec: {{tag: "{tag}"}}\n') == set()
