from __future__ import annotations

from sidecar.istio.check.loader import load
from sidecar.istio.check.located import Node, Place
from sidecar.istio.check.objects import Objects


def objects(text: str) -> Objects:
    return Objects(each for each in load(text, Place("file", 1)) if isinstance(each, Node))


def test_objects_are_found_by_kind_namespace_and_name() -> None:
    read = objects(
        "kind: A\nmetadata: {name: a, namespace: b}\n---\nkind: A\nmetadata: {name: c}\n"
    )
    assert [str(each) for each in read.of("A")] == ["A b/a", "A default/c"]
    assert [each.name for each in read.within("b", "A")] == ["a"]
    assert read.named("A", "b", "a") is read.of("A")[0]
    assert read.named("A", "b", "c") is None


def test_a_list_is_what_is_in_it() -> None:
    read = objects("kind: List\nitems:\n- {kind: A}\n- kind: AList\n  items: [{kind: A}]\n")
    assert [each.node.place.line for each in read.of("A")] == [3, 5]


def test_documents_of_no_kind_are_values_of_charts() -> None:
    read = objects("pilot: {}\n---\njust text\n---\n[]\n---\nkind: A\n")
    assert [each.place.line for each in read.charts] == [1]
