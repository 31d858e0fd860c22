"""Labels say what a key is for and whose it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.key_label import KeyLabel, owner_of


@given(
    st.from_regex(r"[a-z]+", fullmatch=True),
    st.from_regex(r"[0-9a-f]{8}", fullmatch=True),
    st.integers(0, 2**63),
    st.from_regex(r"spiffe://[a-z.]+/[\w/-]+", fullmatch=True),
)
def test_a_label_reads_back_as_it_was_written(
    purpose: str, owner: str, generation: int, workload: str
) -> None:
    label = KeyLabel(purpose, owner, generation, workload)
    assert KeyLabel.parse(str(label)) == label


def test_a_label_that_the_token_cut_still_says_whose_it_is() -> None:
    label = KeyLabel("tls", "0a1b2c3d", 7, "spiffe://demo.mesh/ns/demo/sa/a-long-name")
    cut = KeyLabel.parse(str(label)[:40])
    assert cut is not None
    assert (cut.purpose, cut.owner, cut.generation) == ("tls", "0a1b2c3d", 7)


@pytest.mark.parametrize(
    "text",
    ["", "somebody's", "meshkey CA demo.mesh", "meshkey:trial", "meshkey:tls:0A1B2C3D:1:x"],
)
def test_other_peoples_labels_are_nobodys(text: str) -> None:
    assert KeyLabel.parse(text) is None


def test_an_owner_is_the_same_for_the_same_parts_only() -> None:
    assert owner_of("host", "/run/a.sock") == owner_of("host", "/run/a.sock")
    assert owner_of("host", "/run/a.sock") != owner_of("host/run", "a.sock")
    assert len(owner_of("x")) == 8
