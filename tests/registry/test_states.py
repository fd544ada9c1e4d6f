"""The states of an execution: one test an arrow, and one that no other is accepted."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from queues import ANOTHER, Queue, QueuedExecution
from sqlalchemy import update

from kitaru_registry.database.tables import executions
from kitaru_registry.errors import KitaruConflictError, KitaruFencedError, KitaruStateError
from kitaru_registry.executions import ending
from kitaru_registry.executions import queue as queue_of_record
from kitaru_registry.records.states import ENDED, OPEN, STATUSES, TRANSITIONS, may_become, sources_of

FAILURE = {"type": "ValueError", "message": "no", "origin": "user_code"}


def test_pending_becomes_running_by_a_claim(queue: Queue) -> None:
    execution = queue.new()

    assert execution.claim() is not None
    assert (execution.status, execution.row.attempt) == ("running", 1)


def test_running_becomes_running_by_a_take_over(queue: Queue) -> None:
    execution = queue.new(status="running")

    assert execution.claim(owner=ANOTHER) is not None
    assert (execution.status, execution.row.attempt, execution.row.owner) == ("running", 2, ANOTHER.name)


def test_running_becomes_waiting_by_parking(queue: Queue) -> None:
    execution = queue.new(status="running")

    assert execution.park() == {}
    assert (execution.status, execution.row.lease_until_us) == ("waiting", None)


def test_waiting_becomes_pending_by_an_answer(queue: Queue) -> None:
    execution = queue.new(status="waiting")

    execution.answer("approve", True)

    assert (execution.status, execution.is_claimable) == ("pending", True)


def test_running_becomes_pending_when_its_process_ends(queue: Queue) -> None:
    execution = queue.new(status="running")

    assert execution.lose_process() == "pending"
    assert (execution.status, execution.row.status_reason) == ("pending", "killed by SIGKILL")


def test_running_becomes_completed(queue: Queue) -> None:
    execution = queue.new(status="running")

    execution.finish()

    assert execution.status == "completed"
    assert execution.row.ended_us is not None


def test_running_becomes_failed(queue: Queue) -> None:
    execution = queue.new(status="running")

    execution.finish(error=FAILURE)

    assert (execution.status, execution.row.error) == ("failed", FAILURE)


def test_failed_becomes_pending_by_a_retry(queue: Queue) -> None:
    execution = queue.new(status="failed")

    ending.retry(queue.database, execution.exec_id, actor="me@laptop")

    assert (execution.status, execution.row.error, execution.is_claimable) == ("pending", None, True)


@pytest.mark.parametrize("status", ["pending", "waiting"])
def test_what_is_open_becomes_failed_when_its_time_to_finish_is_over(queue: Queue, status: str) -> None:
    execution = queue.new(status=status)
    with queue.database.write() as connection:
        connection.execute(update(executions).values(finish_by_us=1, finish_seconds=0.5))

    assert ending.end_late(queue.database) == 1
    assert (execution.status, execution.row.error["type"]) == ("failed", "KitaruTimeoutError")


def test_running_becomes_cancelled_once_its_process_has_heard(queue: Queue) -> None:
    execution = queue.new(status="running")

    assert execution.cancel() == "running"
    assert execution.beat().cancel_requested
    assert execution.lose_process() == "cancelled"
    assert (execution.status, execution.row.status_reason) == ("cancelled", "cancelled by me@laptop")


def test_pending_becomes_cancelled_at_once(queue: Queue) -> None:
    execution = queue.new()

    assert execution.cancel() == "cancelled"
    assert execution.status == "cancelled"


def test_waiting_becomes_cancelled_at_once(queue: Queue) -> None:
    execution = queue.new(status="waiting")

    assert execution.cancel() == "cancelled"
    assert execution.status == "cancelled"


def test_the_table_is_that_of_the_design() -> None:
    assert sorted(TRANSITIONS) == [
        ("failed", "pending"), ("pending", "cancelled"), ("pending", "failed"), ("pending", "running"),
        ("running", "cancelled"), ("running", "completed"), ("running", "failed"), ("running", "pending"),
        ("running", "running"), ("running", "waiting"), ("waiting", "cancelled"), ("waiting", "failed"),
        ("waiting", "pending"),
    ]  # fmt: skip
    assert sources_of("cancelled") == ("pending", "running", "waiting")
    assert set(STATUSES) == ENDED | OPEN
    left = [(ended, after) for ended in ENDED for after in STATUSES if may_become(ended, after)]
    assert left == [("failed", "pending")]


MOVES: dict[str, Callable[[QueuedExecution], object]] = {
    "claim": lambda execution: execution.claim(),
    "claim of what was seen otherwise": lambda execution: execution.claim(
        seen=queue_of_record.Candidate(
            execution.row.id, execution.exec_id, "running", execution.row.attempt, None, None, {}
        )
    ),
    "park": lambda execution: execution.park(),
    "unpark": lambda execution: queue_of_record.unpark(execution.database, execution.row.id, execution.row.attempt),
    "finish": lambda execution: execution.finish(),
    "fail": lambda execution: execution.finish(error=FAILURE),
    "lose the process": lambda execution: execution.lose_process(),
    "lose the process again and again": lambda execution: [execution.lose_process() for _ in range(6)],
    "beat": lambda execution: execution.beat(),
    "retry": lambda execution: ending.retry(execution.database, execution.exec_id, actor="me@laptop"),
    "end late": lambda execution: ending.end_late(execution.database),
    "make due": lambda execution: queue_of_record.make_due(execution.database, execution.exec_id),
    "cancel": lambda execution: execution.cancel(),
    "cancel what is owned": lambda execution: ending.cancel_owned(
        execution.database, execution.row.id, execution.row.attempt
    ),
}


@pytest.mark.parametrize(("status", "move"), list(itertools.product(STATUSES, MOVES)))
def test_no_other_arrow_is_accepted(queue: Queue, status: str, move: str) -> None:
    execution = queue.new(status=status)
    before = execution.row

    try:
        MOVES[move](execution)
    except KitaruStateError:
        pass

    after = execution.row
    # A process that stayed wakes its execution and goes on with it in one transaction.
    ways = {(status, after.status), (status, "pending") if move == "unpark" else (status, after.status)}
    assert after.status == status or ways & TRANSITIONS
    if after.status in ENDED and status in ENDED:
        assert (after.status, after.error, after.ended_us) == (status, before.error, before.ended_us)


@pytest.mark.parametrize("status", sorted(ENDED))
def test_what_has_ended_takes_no_answer_and_no_entry(queue: Queue, status: str) -> None:
    execution = queue.new(status="running")
    execution.ask("approve")
    if status == "cancelled":
        execution.cancel()
        execution.lose_process()
    else:
        execution.finish(error=FAILURE if status == "failed" else None)

    with pytest.raises(KitaruConflictError, match="is closed: its flow does not stand at it"):
        execution.answer("approve", True)
    with pytest.raises(KitaruFencedError):
        execution.write()
    assert execution.status == status
