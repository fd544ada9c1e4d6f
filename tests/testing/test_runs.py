"""`testing.run`: a flow from beginning to end, in no time, with the answers and crashes that a test gives."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import tested_flows as flows

from kitaru import (
    KitaruContextError,
    KitaruStateError,
    KitaruTimeoutError,
    KitaruUsageError,
    KitaruUserCodeError,
    KitaruWaitValidationError,
    checkpoint,
    flow,
    testing,
)


@pytest.fixture(autouse=True)
def _nothing_happened() -> None:
    flows.charged.clear()


def test_a_week_an_hour_and_a_pause_pass_at_once() -> None:
    outcome = testing.run(flows.order, "tea", answers={"approve": True})

    assert outcome.result == "sent tea"
    assert timedelta(days=7) < outcome.took < timedelta(days=7, minutes=5)
    assert outcome.attempts == 1


def test_the_journal_says_what_happened_in_order() -> None:
    outcome = testing.run(flows.order, "tea", answers={"approve": True})

    assert [(entry.kind, entry.key) for entry in outcome.journal] == [
        ("wait", "approve"),
        ("failed try", "charge"),
        ("checkpoint", "charge"),
        ("wait", "sleep"),
        ("checkpoint", "send"),
    ]
    assert isinstance(outcome.journal[1].error, ConnectionError)
    assert outcome.journal[2].value == "paid"
    assert outcome.journal[2].tries == 2
    assert str(outcome.journal[4]) == "checkpoint send = 'sent tea' (attempt 1)"
    assert outcome.calls == {"charge": 2, "send": 1}


def test_a_wait_without_an_answer_expires() -> None:
    outcome = testing.run(flows.order, "tea")

    assert outcome.result == "refused"
    assert outcome.took == timedelta(days=3)
    assert [(wait.name, wait.status) for wait in outcome.waits] == [("approve", "expired")]


def test_an_answer_is_told_what_is_asked() -> None:
    outcome = testing.run(flows.order, "tea", answers={"approve": lambda asked: asked.metadata == {"item": "tea"}})

    assert [(wait.status, wait.answer) for wait in outcome.waits] == [("answered", True)]


def test_an_answer_is_to_a_name_or_to_a_key() -> None:
    outcome = testing.run(flows.asks_twice, answers={"word": "one", "word#2": "other"})

    assert outcome.result == ["one", "other"]


def test_a_list_is_an_answer_like_any_other() -> None:
    outcome = testing.run(flows.gathered, answers={"more": ["a", "b"]})

    assert outcome.result == [2, 4, ["a", "b"]]
    assert outcome.took == timedelta(hours=1)


def test_of_two_answers_to_one_question_the_first_asked_counts() -> None:
    assert testing.run(flows.asks_two, answers={"manager": True, "lead": False}).result == ("lead", False)
    assert testing.run(flows.asks_two, answers={"manager": True, "lead": False}, seed=3).status == "completed"


def test_what_the_flow_raised_is_told_and_raised() -> None:
    outcome = testing.run(flows.refuses, "that")

    assert outcome.status == "failed"
    assert repr(outcome.error) == "ValueError('not that')"
    with pytest.raises(KitaruUserCodeError, match="not that") as raised:
        outcome.result  # noqa: B018
    assert isinstance(raised.value.__cause__, ValueError)


def test_a_finish_timeout_ends_a_sleep() -> None:
    outcome = testing.run(flows.too_long)

    assert outcome.took == timedelta(hours=1)
    assert isinstance(outcome.error, KitaruTimeoutError)


def test_child_flows_take_part_and_get_answers() -> None:
    outcome = testing.run(flows.journey, answers={"agree": True})

    assert outcome.result == [1, 2]
    assert outcome.took == timedelta(days=2)


def test_threads_and_processes_of_an_async_checkpoint_are_waited_for() -> None:
    outcome = testing.run(flows.outside)

    assert outcome.result == ["from a thread", 0]
    assert outcome.took == timedelta()


def test_now_follows_the_clock_that_is_in_use() -> None:
    with testing.Clock(datetime(2040, 1, 1, tzinfo=UTC)) as clock:
        outcome = testing.run(flows.tells_time)

        assert outcome.result == datetime(2040, 1, 1, 0, 1, tzinfo=UTC)
        assert clock.now == outcome.result


def test_it_runs_under_an_event_loop() -> None:
    async def within() -> Any:
        return testing.run(flows.gathered, answers={"more": []}).result

    assert asyncio.run(within()) == [2, 4, []]


# Crashes


def test_a_lost_write_is_made_again() -> None:
    outcome = testing.run(flows.order, "tea", answers={"approve": True}, crash_at=3)

    assert outcome.result == "sent tea"
    assert (outcome.attempts, outcome.crashes) == (2, 1)
    assert outcome.calls["charge"] == 3
    assert [entry.attempt for entry in outcome.journal] == [1, 1, 2, 2, 2]


def test_a_write_that_was_durable_is_not_made_again() -> None:
    outcome = testing.run(flows.order, "tea", answers={"approve": True}, crash_at=testing.crash_at(3, after=True))

    assert outcome.attempts == 2
    assert outcome.calls["charge"] == 2


def test_each_attempt_can_crash() -> None:
    outcome = testing.run(flows.order, "tea", answers={"approve": True}, crash_at=[2, None])

    assert outcome.attempts == 2
    outcome = testing.run(flows.order, "tea", answers={"approve": True}, crash_at=[2, 1, 1])
    assert outcome.attempts == 4


def test_a_crash_loop_ends_as_anywhere() -> None:
    outcome = testing.run(flows.order, "tea", answers={"approve": True}, crash_at=[1] * 9)

    assert outcome.status == "failed"
    assert outcome.attempts == 5
    assert "5 attempts in a row" in str(outcome.error)


# What is wrong is said


@pytest.mark.parametrize("write", [0, -1, True, "x", 1.5])
def test_a_crash_is_at_a_write(write: Any) -> None:
    with pytest.raises(KitaruUsageError, match="is no write"):
        testing.run(flows.order, "tea", crash_at=write)


def test_a_crash_that_was_not_reached_is_no_silent_success() -> None:
    with pytest.raises(KitaruUsageError, match=r"crash_at\(99\) was not reached: attempt 1 of order made 2 writes"):
        testing.run(flows.order, "tea", crash_at=99)


def test_a_wait_that_nobody_answers_is_named_with_the_way_to_answer_it() -> None:
    with pytest.raises(KitaruUsageError, match="nobody answers the wait word of asks_twice") as raised:
        testing.run(flows.asks_twice)
    assert raised.value.hint == 'give an answer: testing.run(asks_twice, ..., answers={"word": ...})'


def test_a_child_s_wait_that_nobody_answers_is_named() -> None:
    with pytest.raises(KitaruUsageError, match="nobody answers the wait agree of step"):
        testing.run(flows.journey)


@pytest.mark.parametrize("answers", [{"aprove": True}, {"approve": True, "aprove": False}])
def test_an_answer_to_nothing_is_named_with_what_was_meant(answers: dict[str, Any]) -> None:
    with pytest.raises(KitaruUsageError, match="there is an answer to aprove") as raised:
        testing.run(flows.order, "tea", answers=answers)
    assert raised.value.hint == "did you mean approve?"


def test_an_answer_that_does_not_fit_is_refused_and_named() -> None:
    with pytest.raises(KitaruWaitValidationError, match=r'the answer to approve: .*got string "yes"'):
        testing.run(flows.order, "tea", answers={"approve": "yes"})


def test_what_an_answer_s_function_raises_reaches_the_test() -> None:
    def fail(_: object) -> None:
        raise LookupError("no such customer")

    with pytest.raises(LookupError, match="no such customer"):
        testing.run(flows.order, "tea", answers={"approve": fail})


def test_answers_are_by_name() -> None:
    with pytest.raises(KitaruUsageError, match="are no answers by name"):
        testing.run(flows.order, "tea", answers=[True])  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [flows.send, flows.order.function, None])
def test_what_is_not_a_flow_is_refused(given: Any) -> None:
    with pytest.raises(KitaruUsageError, match="is not a flow"):
        testing.run(given)


def test_arguments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(KitaruUsageError, match="order: missing a required argument"):
        testing.run(flows.order)


@flow
def runs_another() -> Any:
    return testing.run(flows.order, "tea").result


def test_a_flow_is_not_tested_inside_a_flow() -> None:
    outcome = testing.run(runs_another)

    assert isinstance(outcome.error, KitaruContextError)


taken = threading.Lock()


@flow
def blocks() -> None:
    with taken:
        pass


def test_a_flow_that_blocks_is_an_error_with_the_line() -> None:
    with (
        taken,
        pytest.raises(KitaruTimeoutError, match=r"blocks has not ended in 1 s; it blocks at .*test_runs.py:\d+ in"),
    ):
        testing.run(blocks, patience_seconds=1)


@checkpoint
def stands() -> None:
    threading.Event().wait()


@flow
def waits_for_nobody() -> None:
    stands()


def test_a_flow_that_waits_for_nobody_is_an_error_with_the_thread_and_the_checkpoint() -> None:
    with pytest.raises(
        KitaruStateError,
        match=r"waits_for_nobody cannot go on: nothing can: flow in checkpoint stands at .*test_runs.py:\d+ in stands",
    ):
        testing.run(waits_for_nobody)
