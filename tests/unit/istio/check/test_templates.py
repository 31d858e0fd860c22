from __future__ import annotations

from sidecar.istio.check.finding import Finding
from sidecar.istio.check.loader import load
from sidecar.istio.check.located import Node, Place
from sidecar.istio.check.templates import Template, templates


def read(text: str) -> list[Template | Finding]:
    [parent] = load(text, Place("file", 1))
    assert isinstance(parent, Node)
    return list(templates(parent))


def test_lines_of_a_template_are_lines_of_the_file() -> None:
    [template] = read(
        """\
signer: |
  {{- if .A }}
  {{- fail "no:
  [" }} {{ end }}
  spec:
    a: {{ .B }}
    b: "{{ .C }}-{{ .D }}"
    {{- with .E }}
    c: {{ toYaml . | nindent 4 }}
    {{- end }}
    d: e
other: text
"""
    )[:1]
    assert isinstance(template, Template)
    spec = template.pod.at("spec")
    assert spec.place == Place("file", 5)
    assert {key: node.place.line for key, node in spec.fields.items()} == {
        "a": 6,
        "b": 7,
        "c": 9,
        "d": 11,
    }


def test_both_branches_of_an_action_are_read() -> None:
    [template] = read(
        "signer: |\n  {{- if .A }}\n  a: 1\n  {{- else }}\n  a: 2\n  {{- end }}\n  b: 3\n"
    )
    assert isinstance(template, Template)
    assert template.pod.at("b").value == 3


def test_a_template_that_is_no_yaml_without_its_actions_is_told_of() -> None:
    [finding] = read("signer: |\n  a: 1\n  b: {{ if .A }}[{{ end }}\n  c: {d\n")
    assert isinstance(finding, Finding)
    assert finding.rule.name == "unreadable-template"


def test_actions_that_never_end_are_not_waited_for() -> None:
    [finding] = read(f"signer: |\n  {'{{ ' * 50_000}\n")
    assert isinstance(finding, Finding)


def test_a_quoted_template_is_read_where_it_stands() -> None:
    [template] = read('signer: "spec:\\n  a: 1\\n"\n')
    assert isinstance(template, Template)
    assert template.pod.at("spec").place.file == "file"
