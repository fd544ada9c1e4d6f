"""What a retry leaves of a journal: pure, rows in, rows out."""

from __future__ import annotations

import json
from typing import Any

from kitaru_registry.executions.journal import Row, Value
from kitaru_registry.executions.superseding import current_rows

FAILURE = json.dumps({"type": "ConnectionError", "message": "down"})
GIVEN_UP = json.dumps({"type": "CancelledError", "class": "asyncio.exceptions:CancelledError", "message": ""})


def done(key: str, **more: Any) -> Row:
    return Row("c", key, 1, value=Value("json", b"1", None), **more)


def failed(key: str) -> Row:
    return Row("c", key, 1, error=FAILURE)


def given_up(key: str) -> Row:
    return Row("c", key, 1, error=GIVEN_UP)


def over(key: str) -> Row:
    return Row("e", key, 1)


def retried(*superseded: str, **more: Any) -> Row:
    return Row("r", "retry", 1, metadata=json.dumps({"superseded": superseded, "rules": 2, "cut": [], **more}))


def left(*rows: Row) -> list[str]:
    """The keys of what counts, in order; in brackets what is used for the very same call alone."""
    current, _ = current_rows([row._replace(seq=number) for number, row in enumerate(rows, start=1)])
    return [f"({c.row.key})" if c.soft else c.row.key for c in current if c.row.kind != "r"]


def test_the_later_outcomes_of_a_failure_s_own_scope_go_with_it() -> None:
    rows = [done("a"), failed("b"), done("refund"), done("refund/try1/call"), done("map[0]/beside"), retried("b")]

    assert left(*rows) == ["a", "(map[0]/beside)"]


def test_what_ran_beside_a_failure_in_its_scope_stays() -> None:
    rows = [failed("b")._replace(ended_us=10), done("c", started_us=5), done("d", started_us=15), retried("b")]

    assert left(*rows) == ["(c)"]


def test_a_retry_of_an_earlier_release_leaves_what_it_left_then() -> None:
    rows = [done("a"), failed("b"), done("refund"), given_up("task[1]/c"), retried("b", rules=1, cut=None)]
    said = json.loads(rows[-1].metadata or "")
    del said["rules"], said["cut"]

    assert left(*rows[:-1], rows[-1]._replace(metadata=json.dumps(said))) == ["a", "(refund)"]


def test_a_failure_that_a_cancellation_has_overtaken_does_not_come_back() -> None:
    rows = [failed("task[0]/a"), failed("task[1]/a"), given_up("task[1]/a"), retried("task[0]/a", cut=["task[1]/a"])]

    assert left(*rows) == []


def test_a_value_that_a_cancellation_has_overtaken_is_used() -> None:
    rows = [failed("task[0]/a"), done("task[1]/a"), given_up("task[1]/a"), retried("task[0]/a", cut=["task[1]/a"])]

    assert left(*rows) == ["(task[1]/a)"]


def test_a_cancellation_that_its_branch_handled_stays() -> None:
    beside = [done("task[1]/a"), failed("task[0]/a"), over("task[1]/asyncio:timer"), given_up("task[1]/b")]

    found = left(*beside, done("task[1]/instead"), retried("task[0]/a"))

    assert found == ["task[1]/a", "task[1]/asyncio:timer", "(task[1]/b)", "(task[1]/instead)"]


def test_a_time_out_that_ended_the_flow_begins_anew() -> None:
    slept = [over("asyncio:timer"), done("a"), over("asyncio:timer#2"), given_up("task[0]/b")]

    assert left(*slept, retried("task[0]/b")) == ["asyncio:timer", "a"]


def test_behind_a_failure_of_the_flow_s_own_code_no_timer_is_over() -> None:
    assert left(done("a"), over("asyncio:timer"), given_up("task[0]/b"), retried(cut=["task[0]/b"])) == ["a"]
    assert left(over("asyncio:timer"), done("a"), retried()) == ["asyncio:timer", "a"]
