"""One line a second for each kind of event."""

from __future__ import annotations

from sidecar.rpc.quiet import Quiet


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_first_of_each_kind_is_logged() -> None:
    quiet = Quiet(_Clock())
    assert [quiet.suppressed(kind) for kind in ("a", "b", "a", "b")] == [0, 0, None, None]


def test_after_a_second_comes_one_more_with_the_number_of_those_left_out() -> None:
    clock = _Clock()
    quiet = Quiet(clock)
    assert [quiet.suppressed("a") for _ in range(5)] == [0, None, None, None, None]
    clock.now += 0.999
    assert quiet.suppressed("a") is None
    clock.now += 0.001
    assert quiet.suppressed("a") == 5
    assert quiet.suppressed("a") is None
    clock.now += 60
    assert quiet.suppressed("a") == 1
    clock.now += 60
    assert quiet.suppressed("a") == 0
