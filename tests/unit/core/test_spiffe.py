"""SPIFFE IDs: what is one, and that nothing else passes."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.spiffe import SpiffeId, trust_domain

_PATH_CHARACTERS = string.ascii_letters + string.digits + "._-"
trust_domains = st.text(string.ascii_lowercase + string.digits + "._-", min_size=1, max_size=255)
segments = st.text(_PATH_CHARACTERS, min_size=1, max_size=20).filter(lambda s: s not in {".", ".."})
paths = st.lists(segments, min_size=1, max_size=6).map(lambda parts: "/" + "/".join(parts))
spiffe_ids = st.builds(SpiffeId, trust_domains, paths)


@pytest.mark.parametrize(
    ("text", "domain", "path"),
    [
        ("spiffe://demo.mesh/ns/demo/sa/client", "demo.mesh", "/ns/demo/sa/client"),
        ("spiffe://a/b", "a", "/b"),
        ("spiffe://10.2.3.4/svc", "10.2.3.4", "/svc"),
        ("spiffe://under_score/Upper.Case-1_2", "under_score", "/Upper.Case-1_2"),
        ("spiffe://td/...", "td", "/..."),
        ("spiffe://" + "d" * 255 + "/x", "d" * 255, "/x"),
    ],
)
def test_a_workloads_id_is_parsed(text: str, domain: str, path: str) -> None:
    parsed = SpiffeId.parse(text)
    assert (parsed.trust_domain, parsed.path) == (domain, path)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "does not start with"),
        ("https://demo.mesh/a", "does not start with"),
        ("SPIFFE://demo.mesh/a", "does not start with"),
        (" spiffe://demo.mesh/a", "does not start with"),
        ("spiffe:///a", "trust domain"),
        ("spiffe://Demo.mesh/a", "trust domain"),
        ("spiffe://demo.mesh:443/a", "trust domain"),
        ("spiffe://user@demo.mesh/a", "trust domain"),
        ("spiffe://demo%2emesh/a", "trust domain"),
        ("spiffe://démo/a", "trust domain"),
        ("spiffe://" + "d" * 256 + "/x", "trust domain"),
        ("spiffe://demo.mesh", "path is missing"),
        ("spiffe://demo.mesh/", "segment"),
        ("spiffe://demo.mesh/a/", "segment"),
        ("spiffe://demo.mesh//a", "segment"),
        ("spiffe://demo.mesh/a/./b", "segment"),
        ("spiffe://demo.mesh/a/../b", "segment"),
        ("spiffe://demo.mesh/a?b", "segment"),
        ("spiffe://demo.mesh/a#b", "segment"),
        ("spiffe://demo.mesh/a%20b", "segment"),
        ("spiffe://demo.mesh/a b", "segment"),
        ("spiffe://demo.mesh/a\n", "segment"),
        ("spiffe://demo.mesh/ä", "segment"),
        ("spiffe://demo.mesh/" + "x" * 2048, "at most 2048 bytes"),
    ],
)
def test_whatever_breaks_a_rule_is_refused_with_the_rule(text: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        SpiffeId.parse(text)


def test_an_id_of_2048_bytes_is_the_longest() -> None:
    text = "spiffe://demo.mesh/"
    text += "x" * (2048 - len(text))
    assert str(SpiffeId.parse(text)) == text


@given(spiffe_ids)
def test_text_and_id_say_the_same(spiffe_id: SpiffeId) -> None:
    assert SpiffeId.parse(str(spiffe_id)) == spiffe_id


@given(
    st.text() | st.text().map("spiffe://".__add__) | st.text().map("spiffe://demo.mesh/".__add__)
)
def test_what_is_accepted_is_printed_as_it_was_and_all_else_raises_value_error(text: str) -> None:
    try:
        parsed = SpiffeId.parse(text)
    except ValueError:
        return
    assert str(parsed) == text
    assert trust_domain(parsed.trust_domain) == parsed.trust_domain


@pytest.mark.parametrize("text", ["", "Demo", "demo.mesh/", "spiffe://demo.mesh", "a" * 256, "a\n"])
def test_a_wrong_trust_domain_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a trust domain"):
        trust_domain(text)
