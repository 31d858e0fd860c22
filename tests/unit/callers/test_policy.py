"""Which process may have what."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.callers.policy import NoBearers, Rule, RulePolicy
from sidecar.core.permission import Permissions
from sidecar.core.process import UNKNOWN, CallingProcess
from sidecar.core.purpose import SigningPurpose
from sidecar.errors import CallerRefused

SERVER = SigningPurpose.TLS13_SERVER_CERTIFICATE_VERIFY
CLIENT = SigningPurpose.TLS13_CLIENT_CERTIFICATE_VERIFY
BEGAN = datetime(2026, 11, 1, 12, tzinfo=UTC)
POD = "0f8fad5b-d9cb-469f-a165-70867728950e"
OTHER_POD = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
SLICE = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{POD.replace('-', '_')}"
HASH = "ab" * 32

ENVOY = CallingProcess(
    uid=101,
    gid=102,
    pid=7,
    executable=HASH,
    started=BEGAN,
    cgroup=f"{SLICE}.slice/cri-containerd-1f.scope",
    label="envoy (enforce)",
)
EVERY_POINT = Rule(
    "envoy",
    101,
    {"default": frozenset({SERVER})},
    gid=102,
    executables=frozenset({HASH}),
    pod=POD,
    cgroup="/kubepods.slice",
    label="envoy (enforce)",
    started_by=BEGAN,
    bearer_subject="envoy",
)


class Words:
    """Each word is a good token, of the subject that it says."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def subject(self, token: str) -> str:
        self.asked.append(token)
        if not token.isalpha():
            raise CallerRefused("its token is junk")
        return token


def _allowed(
    *rules: Rule, process: CallingProcess = ENVOY, bearer: str | None = "envoy"
) -> Permissions:
    try:
        return RulePolicy(rules, Words()).permissions(process, bearer)
    except CallerRefused:
        return {}


def _plain(uid: int = 101, **points: Any) -> Rule:
    return Rule("rule", uid, {"default": frozenset({SERVER})}, **points)


def test_who_meets_every_point_may_have_what_the_rule_allows() -> None:
    assert _allowed(EVERY_POINT) == {"default": {SERVER}}


def test_by_default_nothing_is_allowed() -> None:
    with pytest.raises(CallerRefused, match=r"no \[\[caller\]\] allows anything"):
        RulePolicy([], NoBearers()).permissions(ENVOY, None)


@pytest.mark.parametrize(
    ("other", "point"),
    [
        ({"uid": 100}, "uid .it is 100."),
        ({"gid": 101}, "gid .it is 101."),
        ({"executable": "cd" * 32}, "executables .it is cdcd"),
        ({"is_interpreter": True}, "executables .it is an interpreter."),
        ({"cgroup": f"{SLICE}x.slice"}, "pod .its cgroup is"),
        ({"cgroup": "/user.slice"}, "pod .its cgroup is '/user.slice'., cgroup"),
        ({"label": "envoy (complain)"}, "label .it is 'envoy .complain"),
        ({"started": BEGAN + timedelta(seconds=1)}, "started_within .it started 2026"),
        ({"uid": None}, "uid .it is None."),
        ({"gid": None}, "gid .it is None."),
        ({"executable": None}, "executables .it is None."),
        ({"cgroup": None}, "pod .its cgroup is None., cgroup .it is None."),
        ({"label": None}, "label .it is None."),
        ({"started": None}, "started_within .it started None."),
    ],
)
def test_each_point_is_needed_and_the_log_is_told_which_one_failed(
    other: dict[str, Any], point: str
) -> None:
    process = replace(ENVOY, **other)
    with pytest.raises(CallerRefused, match=f"nearest is 'envoy', but for: {point}"):
        RulePolicy([EVERY_POINT], Words()).permissions(process, "envoy")


@pytest.mark.parametrize(
    ("bearer", "why"),
    [(None, "it presents no token"), ("x.y", "its token is junk"), ("db", "it is another's token")],
)
def test_a_token_is_needed_where_a_rule_asks_for_one(bearer: str | None, why: str) -> None:
    with pytest.raises(CallerRefused, match=rf"but for: bearer_subject \({why}\)"):
        RulePolicy([EVERY_POINT], Words()).permissions(ENVOY, bearer)


def test_no_token_is_verified_for_a_process_that_fails_otherwise() -> None:
    words = Words()
    policy = RulePolicy([EVERY_POINT], words)
    with pytest.raises(CallerRefused):
        policy.permissions(replace(ENVOY, uid=100), "envoy")
    assert not words.asked


def test_without_a_section_for_tokens_none_is_good() -> None:
    with pytest.raises(CallerRefused, match="tokens are not taken"):
        RulePolicy([EVERY_POINT], NoBearers()).permissions(ENVOY, "envoy")


def test_an_interpreter_meets_a_rule_that_asks_for_no_executable() -> None:
    assert _allowed(_plain(), process=replace(ENVOY, is_interpreter=True))


def test_the_log_is_told_of_the_rule_that_fails_in_the_fewest_points() -> None:
    far, near = replace(EVERY_POINT, name="far", uid=0, gid=0), replace(EVERY_POINT, gid=0)
    with pytest.raises(CallerRefused, match="nearest is 'envoy', but for: gid"):
        RulePolicy([far, near], Words()).permissions(ENVOY, "envoy")


def test_what_several_rules_allow_comes_together() -> None:
    rules = (
        Rule("server", 101, {"default": frozenset({SERVER})}),
        Rule("client", 101, {"default": frozenset({CLIENT}), "shop": frozenset()}),
        Rule("another's", 102, {"till": frozenset({SERVER})}),
    )
    assert _allowed(*rules) == {"default": {SERVER, CLIENT}, "shop": frozenset()}


@pytest.mark.parametrize(
    "cgroup",
    [
        f"/kubepods/besteffort/pod{POD}/0123",
        f"/kubepods/pod{POD}",
        f"{SLICE}.slice/cri-containerd-1f.scope",
        f"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{POD.replace('-', '_')}.slice",
        # What a container calls the cgroups that it makes under its own changes nothing.
        f"/kubepods/pod{POD}/0123/pod{OTHER_POD}",
    ],
)
def test_a_pod_is_known_by_the_outermost_name_of_its_cgroup(cgroup: str) -> None:
    assert _allowed(_plain(pod=POD), process=replace(ENVOY, cgroup=cgroup))


@pytest.mark.parametrize(
    "cgroup",
    [
        "",
        "/",
        POD,
        f"/kubepods/{POD}",
        f"/kubepods/pod{POD}0",
        f"/kubepods/xpod{POD}",
        f"/kubepods/pod{POD[:-1]}",
        f"/kubepods/pod{OTHER_POD}/0123/pod{POD}",
        f"/kubepods/pod{OTHER_POD}/kubepods-pod{POD.replace('-', '_')}.slice",
        # A neighbour, seen from a cgroup namespace: its own pod's name is above what is seen.
        f"/../0123/pod{POD}",
        f"/../../pod{POD}",
    ],
)
def test_no_other_cgroup_is_taken_for_that_of_a_pod(cgroup: str) -> None:
    assert not _allowed(_plain(pod=POD), process=replace(ENVOY, cgroup=cgroup))


@pytest.mark.parametrize(
    ("wanted", "cgroup", "fits"),
    [
        ("/system.slice/envoy.service", "/system.slice/envoy.service", True),
        ("/system.slice/envoy.service", "/system.slice/envoy.service/worker", True),
        ("/system.slice/envoy.service", "/system.slice/envoy.service2", False),
        ("/system.slice/envoy.service", "/system.slice", False),
        ("/system.slice/envoy.service", "/user.slice/system.slice/envoy.service", False),
        ("/system.slice/envoy.service", "/user.slice/../system.slice/envoy.service", False),
        ("/a", "/../a", False),
        ("/a", "/a/../b", False),
    ],
)
def test_a_cgroup_is_compared_from_the_root_and_by_whole_names(
    wanted: str, cgroup: str, fits: bool
) -> None:
    assert bool(_allowed(_plain(cgroup=wanted), process=replace(ENVOY, cgroup=cgroup))) is fits


def test_a_user_of_whom_no_rule_speaks_need_not_be_looked_at_further() -> None:
    policy = RulePolicy([EVERY_POINT], Words())
    policy.require_user(101)
    with pytest.raises(CallerRefused, match=r"no \[\[caller\]\] is for user 100"):
        policy.require_user(100)


def test_what_a_process_could_have_written_is_quoted_for_the_log() -> None:
    with pytest.raises(CallerRefused) as refused:
        RulePolicy([EVERY_POINT], Words()).permissions(replace(ENVOY, cgroup="/a\nb\x1b"), None)
    assert str(refused.value).isprintable()


_FEW = {
    "uid": st.sampled_from([100, 101]),
    "gid": st.sampled_from([None, 100, 101]),
    "cgroup": st.sampled_from([None, "/a", "/a/b"]),
    "label": st.sampled_from([None, "envoy", "db"]),
}
_RULES = st.builds(
    Rule,
    name=st.just("rule"),
    allows=st.dictionaries(
        st.sampled_from(["default", "shop"]), st.frozensets(st.sampled_from(SigningPurpose))
    ),
    executables=st.frozensets(st.sampled_from(["aa", "bb"])),
    pod=st.sampled_from([None, POD, OTHER_POD]),
    started_by=st.sampled_from([None, BEGAN]),
    bearer_subject=st.sampled_from([None, "envoy", "db"]),
    **_FEW,
)
_PROCESSES = st.builds(
    CallingProcess,
    executable=st.sampled_from([None, "aa", "bb"]),
    is_interpreter=st.booleans(),
    started=st.sampled_from([None, BEGAN, BEGAN + timedelta(seconds=1)]),
    **{**_FEW, "cgroup": st.sampled_from([None, "/a", "/a/b", f"/pod{POD}", f"/a/pod{OTHER_POD}"])},
)
_TOKENS = st.sampled_from([None, "envoy", "db", "?"])


def _is_within(some: Permissions, more: Permissions) -> bool:
    return all(name in more and purposes <= more[name] for name, purposes in some.items())


@given(st.lists(_RULES, max_size=4), _RULES, st.integers(0, 4), _PROCESSES, _TOKENS)
def test_one_more_rule_never_takes_anything_away(
    rules: list[Rule], another: Rule, where: int, process: CallingProcess, bearer: str | None
) -> None:
    before = _allowed(*rules, process=process, bearer=bearer)
    rules.insert(where, another)
    assert _is_within(before, _allowed(*rules, process=process, bearer=bearer))


@given(
    st.lists(_RULES, max_size=4),
    _PROCESSES,
    _TOKENS,
    st.sets(st.sampled_from(["uid", "gid", "executable", "started", "cgroup", "label"])),
)
def test_what_is_not_known_of_a_process_never_gets_it_more(
    rules: list[Rule], process: CallingProcess, bearer: str | None, removed: set[str]
) -> None:
    nothing: dict[str, Any] = dict.fromkeys(removed)
    less = replace(process, **nothing)
    known = _allowed(*rules, process=process, bearer=bearer)
    assert _is_within(_allowed(*rules, process=less, bearer=bearer), known)
    assert _is_within(_allowed(*rules, process=process, bearer=None), known)


@given(st.lists(_RULES, min_size=1, max_size=4))
def test_a_process_of_which_nothing_is_known_may_have_nothing(rules: list[Rule]) -> None:
    assert not _allowed(*rules, process=UNKNOWN)
