"""Executions and the ones that they start: cancelled, retried and counted together."""

from __future__ import annotations

import pytest
from queues import ANOTHER, ME, Queue, QueuedExecution
from sqlalchemy import update

from kitaru_registry.database.tables import executions
from kitaru_registry.executions import ending, families, reading, waits
from kitaru_registry.executions.creating import NewExecution
from kitaru_registry.executions.ids import new_execution_id
from kitaru_registry.executions.journal import Row

FAILURE = {"type": "ValueError", "message": "no", "origin": "user_code"}


def start(queue: Queue, parent: QueuedExecution, key: str = "child") -> QueuedExecution:
    """What the parent's running attempt starts in the call of that key."""
    new = NewExecution(
        exec_id=new_execution_id(), project="default", flow="child", kind="deployed", inputs={}, inputs_codec="json",
        inputs_data=b"{}", input_digest="", actor="me@laptop", parent=parent.row.id, parent_key=key,
    )  # fmt: skip
    parent.writer.append(parent.row.id, parent.row.attempt, [Row("x", key, 1, child=new)])
    return QueuedExecution(queue.database, queue.writer, new.exec_id)


def stand(parent: QueuedExecution, child: QueuedExecution, key: str = "wait:child") -> None:
    wait = {
        "key": key, "name": key, "question": None, "schema": None, "metadata": None, "entered_us": 1, "kind": "child",
        "child": child.exec_id,
    }  # fmt: skip
    waits.open_wait(parent.database, parent.row.id, parent.row.attempt, wait)


def test_a_child_s_end_lets_its_parent_go_on(queue: Queue) -> None:
    parent = queue.new(status="running")
    child = start(queue, parent)
    stand(parent, child)
    parent.park("wait:child")
    assert parent.status == "waiting"

    child.claim()
    child.finish()

    assert parent.status == "pending"


def test_a_child_that_ended_before_anybody_waited_is_known_at_once(queue: Queue) -> None:
    parent = queue.new(status="running")
    child = start(queue, parent)
    child.claim()
    child.finish()

    stand(parent, child)

    assert parent.park("wait:child") == {"wait:child": {"outcome": "answered", "value": None}}


def test_a_fenced_attempt_starts_no_child(queue: Queue) -> None:
    parent = queue.new(status="running")
    row = parent.row
    parent.claim(owner=ANOTHER)
    new = NewExecution(
        exec_id=new_execution_id(), project="default", flow="child", kind="deployed", inputs={}, inputs_codec="json",
        inputs_data=b"{}", input_digest="", actor="me", parent=row.id, parent_key="child",
    )  # fmt: skip

    with pytest.raises(Exception, match="attempt 1 is over"):
        queue.writer.append(row.id, row.attempt, [Row("x", "child", 1, child=new)])

    assert reading.get_execution(queue.database, parent.exec_id).children == ()


def test_a_cancellation_goes_down_to_the_last(queue: Queue) -> None:
    root = queue.new(status="running")
    running = start(queue, root)
    running.claim()
    below = start(queue, running)
    ended = start(queue, root, "child#2")
    ended.claim()
    ended.finish()
    assert families.open_descendants(queue.database, root.exec_id) == {
        running.exec_id: "running", below.exec_id: "pending",
    }  # fmt: skip

    assert root.cancel() == "running"

    assert set(ending.cancel_requests(queue.database)) == {root.exec_id, running.exec_id}
    assert (below.status, ended.status) == ("cancelled", "completed")
    assert below.row.status_reason == "cancelled by me@laptop, with its parent"


@pytest.mark.parametrize("status", ["cancelled", "failed"])
def test_what_is_to_end_is_ended_instead_of_taken_over(queue: Queue, status: str) -> None:
    execution = queue.new(status="running")
    if status == "cancelled":
        execution.cancel()
    else:
        with queue.database.write() as connection:
            connection.execute(update(executions).values(finish_by_us=1, finish_seconds=0.5))

    assert execution.claim(owner=ANOTHER) is None

    assert (execution.status, execution.row.attempt) == (status, 1)


def test_a_family_stands_still_when_nothing_in_it_goes_on(queue: Queue) -> None:
    parent = queue.new(status="running")
    child = start(queue, parent)
    stand(parent, child)
    parent.park("wait:child")
    assert not families.stands_still(queue.database, parent.exec_id)

    child.claim()
    assert not families.stands_still(queue.database, parent.exec_id)
    child.ask("approve")
    child.park("approve")

    assert families.stands_still(queue.database, parent.exec_id)
    assert families.stands_still(queue.database, child.exec_id)


# Retries


def test_a_flow_s_own_retry_keeps_its_deadline_and_somebody_s_retry_does_not(queue: Queue) -> None:
    execution = queue.new(retries=1, finish_seconds=60.0)
    execution.claim()
    deadline = execution.row.finish_by_us
    assert deadline is not None

    execution.finish(error=FAILURE)
    assert (execution.status, execution.row.finish_by_us) == ("pending", deadline)
    execution.claim()
    execution.finish(error=FAILURE)
    assert execution.status == "failed"
    ending.retry(queue.database, execution.exec_id, actor="me")

    assert (execution.status, execution.row.finish_by_us) == ("pending", None)


@pytest.mark.parametrize("origin", ["divergence", "runtime", "crashed"])
def test_only_the_flow_s_own_failures_use_up_its_retries(queue: Queue, origin: str) -> None:
    execution = queue.new(retries=3)
    execution.claim()

    execution.finish(error={**FAILURE, "origin": origin})

    assert (execution.status, execution.row.retries_used) == ("failed", 0)


def test_a_retry_of_a_parent_sets_the_child_going_that_failed_it(queue: Queue) -> None:
    parent = queue.new(status="running")
    failed, other = start(queue, parent), start(queue, parent, "child#2")
    for child in (failed, other):
        child.claim()
        child.finish(error=FAILURE)
    stand(parent, failed)
    stand(parent, other, "wait:child#2")
    # The flow caught the other's failure.
    parent.finish(error={**FAILURE, "failed": ["wait:child"]})

    ending.retry(queue.database, parent.exec_id, actor="me")

    assert (parent.status, failed.status, other.status) == ("pending", "pending", "failed")
    parent.claim(owner=ME)
    stand(parent, failed)
    assert parent.park("wait:child") == {}
    assert parent.status == "waiting"


def test_what_a_parent_starts_again_takes_the_place_of_what_was_cancelled(queue: Queue) -> None:
    parent = queue.new(status="running")
    first = start(queue, parent)
    first.cancel()

    second = start(queue, parent)

    found = reading.get_execution(queue.database, parent.exec_id).children
    assert [(child.exec_id, child.key, child.status) for child in found] == [
        (first.exec_id, "child", "cancelled"), (second.exec_id, "child", "pending"),
    ]  # fmt: skip
    assert reading.get_execution(queue.database, second.exec_id).parent == parent.exec_id
