"""A runner deletes what has expired, and nothing whose process is there."""

from __future__ import annotations

import pytest
from attempts import Executions, TestExecution

from kitaru_registry.database.tables import executions as table
from kitaru_registry.errors import KitaruStateError, KitaruUsageError
from kitaru_registry.executions import retention as records
from kitaru_runner.host import retention
from kitaru_runner.host.locks import FileLock, execution_lock


@pytest.fixture
def expired(executions: Executions) -> list[TestExecution]:
    made = [executions.new() for _ in range(3)]
    for execution in made:
        execution.attempt(lambda: "done")
    with executions.database.write() as connection:
        connection.execute(table.update().values(ended_us=1))
    records.remember_policy(executions.database, "default", 60)
    return made


def deleted(made: list[TestExecution]) -> list[bool]:
    return [execution.record.deleted_at is not None for execution in made]


def test_what_has_expired_goes_now_and_then(executions: Executions, expired: list[TestExecution]) -> None:
    at_work = retention.Retention(executions.database)

    assert at_work.apply() == 3
    assert deleted(expired) == [True, True, True]
    assert at_work.apply() == 0, "not every turn"


def test_what_is_needed_keeps_no_other_from_going(executions: Executions, expired: list[TestExecution]) -> None:
    parent = executions.new()
    with executions.database.write() as connection:
        child = table.c.id == expired[1].row
        connection.execute(table.update().where(child).values(parent=parent.row, parent_key="a"))

    assert retention.apply(executions.database) == 2
    assert deleted(expired) == [True, False, True]


def test_an_execution_whose_process_is_there_is_not_deleted(
    executions: Executions, expired: list[TestExecution]
) -> None:
    lock = FileLock.acquire(execution_lock(executions.database.home, expired[0].exec_id))
    assert lock is not None

    with pytest.raises(KitaruStateError, match="its process has not ended yet"):
        retention.delete(executions.database, [expired[0].record.exec_id], actor="me")
    lock.release()
    retention.delete(executions.database, [expired[0].record.exec_id], actor="me")

    assert deleted(expired) == [True, False, False]


def test_without_a_policy_nothing_goes(executions: Executions, expired: list[TestExecution]) -> None:
    records.remember_policy(executions.database, "default", None)

    assert retention.apply(executions.database) == 0
    assert deleted(expired) == [False, False, False]


def test_of_any_number_each_goes_that_can(executions: Executions, expired: list[TestExecution]) -> None:
    parent = executions.new()
    with executions.database.write() as connection:
        child = table.c.id == expired[1].row
        connection.execute(table.update().where(child).values(parent=parent.row, parent_key="a"))

    done = retention.delete_each(executions.database, [made.record.exec_id for made in expired], actor="me")

    assert deleted(expired) == [True, False, True]
    assert done.exec_ids == (expired[0].exec_id, expired[2].exec_id)
    assert len(done.left) == 1
    assert f"its parent, {parent.exec_id}, is still open" in done.left[0]


def test_too_many_are_not_deleted_all_or_none(executions: Executions, expired: list[TestExecution]) -> None:
    with pytest.raises(KitaruUsageError, match="300 executions are too many to be deleted all or none"):
        retention.delete(executions.database, [expired[0].record.exec_id] * 300, actor="me")
