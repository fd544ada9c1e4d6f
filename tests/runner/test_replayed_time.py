"""How long after a flow's beginning what is recorded was recorded, for the time-outs of the flow's own."""

from __future__ import annotations

from typing import Any

from kitaru_registry.clock import now_us
from kitaru_runner.protocol import Encoded, Entry, Opening
from kitaru_runner.replayed_time import passed

DAY_US = 86_400_000_000


def opening(*entries: Entry, replay: dict[str, Any] | None = None) -> Opening:
    return Opening("id", 2, "flow", "flows.py:flow", 0, Encoded("json", b"{}"), entries, replay=replay)


def entry(seq: int, begun_us: int | None, ended_us: int, *, kind: str = "c") -> Entry:
    return Entry(kind, f"call{seq}", ended_us, seq=seq, started_us=begun_us)


def test_it_begins_with_what_began_first() -> None:
    found, _ = passed(opening(entry(1, 20, 30), entry(2, 10, 50)))

    assert found == {1: 20, 2: 40}


def test_the_time_between_two_attempts_counts() -> None:
    found, origin = passed(opening(entry(1, 10, 20), entry(2, DAY_US, DAY_US + 5)))

    assert found == {1: 10, 2: DAY_US - 5}
    assert origin == 10


def test_the_time_before_a_retry_does_not() -> None:
    found, origin = passed(opening(entry(1, 10, 20), entry(2, None, DAY_US, kind="r"), entry(3, DAY_US, DAY_US + 5)))

    assert found == {1: 10, 2: 10, 3: 15}
    assert DAY_US + 7 - origin == 17


def test_the_time_between_an_execution_and_its_replay_does_not() -> None:
    copied = {"copied": 1}
    found, _ = passed(opening(entry(1, 10, 20), entry(2, DAY_US, DAY_US + 5), replay=copied))
    _, origin = passed(opening(entry(1, 10, 20), replay=copied))

    assert found == {1: 10, 2: 15}
    assert now_us() - origin < DAY_US
