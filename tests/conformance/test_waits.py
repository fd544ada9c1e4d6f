"""Answers: the first one wins, whoever asks by whatever name."""

from __future__ import annotations

import pytest
from queues import Queue
from registries import Record, at_once

from kitaru_registry.errors import KitaruConflictError, KitaruNotFoundError
from kitaru_registry.executions.waits import find_wait, list_waits


def test_the_first_answer_wins_and_the_second_is_shown_it(queue: Queue) -> None:
    execution = queue.new(status="waiting")

    answered = execution.answer("approve", False, actor="ada")
    with pytest.raises(KitaruConflictError, match=r"was answered by ada: false"):
        execution.answer("approve", True, actor="bob")

    assert (answered.status, answered.answer, answered.answered_by) == ("answered", False, "ada")
    assert find_any(queue, execution.exec_id) == [("approve", "answered", False)]


ANSWER = """
from kitaru_registry.errors import KitaruConflictError
from kitaru_registry.executions import waits
with registry.database.read() as connection:
    exec_id = connection.exec_driver_sql("SELECT exec_id FROM executions").scalar_one()
try:
    answer = waits.answer(registry.database, exec_id, "approve", me, actor=f"actor{me}", door="test").answer
except KitaruConflictError as error:
    answer = error.message
"""


def test_of_answers_at_once_one_wins(queue: Queue, record: Record) -> None:
    execution = queue.new(status="waiting")

    answers = at_once(record, ANSWER, processes=4)

    winners = [answer for answer in answers if isinstance(answer, int)]
    assert len(winners) == 1
    assert all(f"was answered by actor{winners[0]}: {winners[0]}" in a for a in answers if isinstance(a, str))
    assert find_any(queue, execution.exec_id) == [("approve", "answered", winners[0])]


@pytest.mark.parametrize("value", [None, False, 0, "", [], {"a": [1, None]}, "ü\ud800"])
def test_an_answer_is_any_json(queue: Queue, value: object) -> None:
    execution = queue.new(status="waiting")

    assert execution.answer("approve", value).answer == value
    assert execution.status == "pending"


def test_a_wait_is_opened_once_however_many_attempts_ask(queue: Queue) -> None:
    execution = queue.new(status="running")

    assert execution.ask("approve") is None
    assert execution.ask("approve") is None
    execution.claim()
    execution.answer("approve", True)

    assert execution.ask("approve") == {"outcome": "answered", "value": True}
    assert len(list_waits(queue.database, exec_id=execution.exec_id, pending_only=False)) == 1


def test_a_wait_is_found_by_key_by_name_or_as_the_only_one(queue: Queue) -> None:
    execution = queue.new(status="running")
    execution.ask("task[0]/approve")

    for given in (None, "approve", "task[0]/approve"):
        assert find_wait(queue.database, execution.exec_id, given).key == "task[0]/approve"


def test_a_name_of_several_is_a_conflict_that_lists_them(queue: Queue) -> None:
    execution = queue.new(status="running")
    execution.ask("task[0]/approve")
    execution.ask("task[1]/approve")

    for given in (None, "approve"):
        with pytest.raises(KitaruConflictError, match=r"2 pending waits: .*task\[0\]/approve.*task\[1\]/approve"):
            find_wait(queue.database, execution.exec_id, given)

    execution.answer("task[1]/approve", True)
    assert find_wait(queue.database, execution.exec_id, "approve").key == "task[0]/approve"


def test_a_wait_that_is_answered_is_a_conflict_and_one_that_is_not_there_is_not_found(queue: Queue) -> None:
    execution = queue.new(status="waiting")
    execution.answer("approve", True)

    with pytest.raises(KitaruConflictError, match="was answered by me@laptop: true"):
        find_wait(queue.database, execution.exec_id, "approve")
    with pytest.raises(KitaruNotFoundError, match="has no wait approved; its waits: approve"):
        find_wait(queue.database, execution.exec_id, "approved")


def test_an_answer_to_a_question_that_another_one_closed_is_shown_that_answer(queue: Queue) -> None:
    execution = queue.new(status="running")
    for name in ("lead", "boss"):
        execution.ask(f"wait_any/{name}", any_of="wait_any")
    execution.answer("wait_any/boss", 3, actor="ada")

    with pytest.raises(KitaruConflictError, match=r"wait wait_any/boss of .* was answered by ada: 3"):
        find_wait(queue.database, execution.exec_id, "lead")


def test_lists_show_what_is_open_newest_first(queue: Queue) -> None:
    first, second = queue.new(status="waiting"), queue.new(status="waiting")
    queue.new(status="waiting").cancel()

    found = list_waits(queue.database, project="default", flow="review")

    assert {wait.exec_id for wait in found} == {first.exec_id, second.exec_id}
    assert list_waits(queue.database, project="other") == []
    assert [wait.question for wait in list_waits(queue.database, exec_id=first.exec_id)] == ["Publish?"]


def test_an_execution_that_ends_closes_its_waits(queue: Queue) -> None:
    execution = queue.new(status="running")
    execution.ask("approve")
    execution.finish()

    assert find_any(queue, execution.exec_id) == [("approve", "closed", None)]


def find_any(queue: Queue, exec_id: str) -> list[tuple[str, str, object]]:
    found = list_waits(queue.database, exec_id=exec_id, pending_only=False)
    return [(wait.key, wait.status, wait.answer) for wait in found]
