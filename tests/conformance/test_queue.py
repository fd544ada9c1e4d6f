"""Claims, fences, crash loops, idempotency: an execution has one owner at every moment."""

from __future__ import annotations

import threading

import pytest
from queues import ANOTHER, ME, Queue
from registries import Record, Registry, at_once

from kitaru_registry.clock import now_us
from kitaru_registry.deployments.versions import delete_version
from kitaru_registry.errors import (
    KitaruBackendError,
    KitaruConflictError,
    KitaruFencedError,
    KitaruNotFoundError,
)
from kitaru_registry.executions import ending, waits
from kitaru_registry.executions import queue as queue_of_record
from kitaru_registry.executions.ending import FRUITLESS_LIMIT, LONGEST_PAUSE_SECONDS, pause_after
from kitaru_registry.executions.ids import new_execution_id, uuid7
from kitaru_registry.executions.journal import Row, read_rows

# Claims


def test_a_claim_says_who_owns_it_and_until_when(queue: Queue) -> None:
    execution = queue.new()
    claim = execution.claim()

    assert claim is not None
    assert (claim.exec_id, claim.attempt) == (execution.exec_id, 1)
    row = execution.row
    assert (row.owner, row.owner_pid, row.owner_host) == (ME.name, ME.pid, ME.host)
    assert row.lease_until_us > now_us()
    assert row.started_us is not None


def test_of_two_that_saw_the_same_one_claims(queue: Queue) -> None:
    execution = queue.new()
    seen = execution.seen

    assert execution.claim(seen=seen) is not None
    assert execution.claim(seen=seen, owner=ANOTHER) is None
    assert execution.row.owner == ME.name


CLAIM = """
from kitaru_registry.executions import queue
owner = queue.Owner(f"runner:{me}", me, "here")
answer = [seen.exec_id for seen in queue.claimable(registry.database) if queue.claim(registry.database, seen, owner)]
"""


def test_of_processes_that_claim_at_once_each_execution_has_one(queue: Queue, record: Record) -> None:
    created = [queue.new().exec_id for _ in range(20)]

    answers = at_once(record, CLAIM, processes=3)

    # A running one is a candidate too: who claims that takes it over, with an attempt of its own.
    claims = [exec_id for answer in answers for exec_id in answer]
    assert set(claims) == set(created)
    attempts = {exec_id: queue_of_record.candidate(queue.database, exec_id).attempt for exec_id in created}
    assert attempts == {exec_id: claims.count(exec_id) for exec_id in created}


def test_the_oldest_comes_first(queue: Queue) -> None:
    created = [queue.new().exec_id for _ in range(3)]

    assert [found.exec_id for found in queue_of_record.claimable(queue.database)] == created


def test_what_waits_or_has_ended_is_no_candidate(queue: Queue) -> None:
    for status in ("waiting", "completed", "failed", "cancelled"):
        assert not queue.new(status=status).is_claimable


def test_a_lease_is_renewed_by_its_owner_alone(queue: Queue) -> None:
    execution = queue.new(status="running")
    execution.claim(owner=ANOTHER)

    assert execution.beat(attempt=2) == queue_of_record.Beat(owned=True, cancel_requested=False)
    assert execution.beat(attempt=1) == queue_of_record.Beat(owned=False, cancel_requested=False)


# Fences


def test_a_late_write_of_an_old_attempt_writes_nothing(queue: Queue) -> None:
    execution = queue.new(status="running")
    execution.write("first")
    execution.claim(owner=ANOTHER)

    with pytest.raises(KitaruFencedError, match="attempt 1 is over"):
        execution.write("late", attempt=1)
    with pytest.raises(KitaruFencedError):
        execution.write("late", attempt=1, rows=3)
    execution.write("second")

    assert keys_of(queue, execution.row.id) == ["first", "second"]


def test_everything_else_of_an_old_attempt_is_refused_too(queue: Queue) -> None:
    execution = queue.new(status="running")
    execution.claim(owner=ANOTHER)
    before = execution.row

    with pytest.raises(KitaruFencedError):
        execution.ask("approve", attempt=1)
    with pytest.raises(KitaruFencedError):
        execution.park(attempt=1)
    with pytest.raises(KitaruFencedError):
        execution.finish(attempt=1)
    assert execution.lose_process(attempt=1) is None
    assert not queue_of_record.unpark(queue.database, before.id, 1)
    assert not ending.cancel_owned(queue.database, before.id, 1)

    assert execution.row == before


@pytest.mark.parametrize("status", ["pending", "waiting", "completed", "failed", "cancelled"])
def test_an_attempt_writes_only_while_it_runs(queue: Queue, status: str) -> None:
    execution = queue.new(status=status)

    with pytest.raises(KitaruFencedError):
        execution.write()

    assert keys_of(queue, execution.row.id) == []


def test_a_fenced_write_leaves_those_that_share_its_commit_alone(queue: Queue) -> None:
    """Threads append at once, one of them for an attempt that is over."""
    fenced_out, owned = queue.new(status="running"), queue.new(status="running")
    old, current = fenced_out.row, owned.row
    fenced_out.claim(owner=ANOTHER)
    refused = []
    start = threading.Barrier(9)

    def write(number: int) -> None:
        execution, row = (fenced_out, old) if number % 3 == 0 else (owned, current)
        start.wait()
        try:
            execution.write(f"key{number}-", attempt=row.attempt, rows=2)
        except KitaruFencedError:
            refused.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(refused) == [0, 3, 6]
    assert keys_of(queue, old.id) == []
    assert len(keys_of(queue, current.id)) == 12


def test_entries_of_one_write_are_numbered_contiguously(queue: Queue) -> None:
    execution = queue.new(status="running")
    numbers = []

    def write(number: int) -> None:
        numbers.append(execution.write(f"key{number}-", attempt=1, rows=3))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(numbers) == [3, 6, 9, 12, 15, 18]
    found = keys_of(queue, execution.row.id)
    assert [key.partition("-")[0] for key in found[::3]] == [key.partition("-")[0] for key in found[2::3]]


def test_writers_hear_of_their_rows_in_order_once_others_can_read_them(queue: Queue) -> None:
    execution = queue.new(status="running")
    heard = []

    def recorded(seq: int) -> None:
        heard.append((seq, len(keys_of(queue, execution.row.id)) >= seq))

    def write(number: int) -> None:
        queue.writer.append(execution.row.id, 1, [Row("c", f"key{number}", 1)], recorded)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert heard == [(seq, True) for seq in range(1, 10)]


def test_a_fenced_writer_hears_of_nothing(queue: Queue) -> None:
    execution = queue.new(status="running")
    old = execution.row
    execution.claim(owner=ANOTHER)
    heard: list[int] = []

    with pytest.raises(KitaruFencedError):
        queue.writer.append(old.id, old.attempt, [Row("c", "key", 1)], heard.append)

    assert heard == []


# Idempotency


def test_an_idempotency_key_gives_the_first_execution(queue: Queue) -> None:
    first = queue.new(key="order-7", inputs="a")
    again = queue.new(key="order-7", inputs="a")

    assert again.exec_id == first.exec_id
    assert queue.new(key="order-8", inputs="a").exec_id != first.exec_id


def test_an_idempotency_key_with_other_inputs_is_a_conflict(queue: Queue) -> None:
    first = queue.new(key="order-7", inputs="a")

    with pytest.raises(KitaruConflictError, match=f"with other inputs: {first.exec_id}"):
        queue.new(key="order-7", inputs="b")


CREATE = """
answer, created = create(registry.database, NewExecution(
    exec_id=str(me) * 8, project="default", flow="review", kind="deployed", inputs={}, inputs_codec="json",
    inputs_data=b"{}", input_digest="a", actor="me", idempotency_key="order-7",
))
answer = [answer, created]
"""


def test_of_processes_with_one_key_at_once_one_creates(registry: Registry, record: Record) -> None:
    answers = at_once(record, CREATE, processes=4)

    assert len({exec_id for exec_id, _ in answers}) == 1
    assert sorted(created for _, created in answers) == [False, False, False, True]


def test_nothing_is_created_for_a_version_that_was_deleted_meanwhile(registry: Registry, queue: Queue) -> None:
    registry.deploy("one")
    registry.deploy("two")
    delete_version(registry.database, project="default", flow="review", version=2)

    with pytest.raises(KitaruNotFoundError, match="v2 of review was deleted"):
        queue.new(version=2, version_row=2)


# Parking


def test_an_answer_that_came_meanwhile_is_given_instead_of_parking(queue: Queue) -> None:
    execution = queue.new(status="running")
    execution.ask("one")
    execution.ask("two")
    execution.answer("one", [1])

    assert execution.park("one", "two") == {"one": {"outcome": "answered", "value": [1]}}
    assert execution.status == "running"
    assert execution.park("two") == {}
    assert execution.status == "waiting"


def test_an_answer_while_it_runs_leaves_it_running(queue: Queue) -> None:
    execution = queue.new(status="running")
    execution.ask("approve")

    execution.answer("approve", True)

    assert execution.status == "running"
    assert waits.new_answers(queue.database, execution.row.id, ["approve"]) == {
        "approve": {"outcome": "answered", "value": True}
    }


def test_a_process_that_stayed_goes_on_with_its_attempt_unless_another_took_over(queue: Queue) -> None:
    stayed, taken = queue.new(status="waiting"), queue.new(status="waiting")
    for execution in (stayed, taken):
        execution.answer("approve", True)
    taken.claim(owner=ANOTHER)

    assert queue_of_record.unpark(queue.database, stayed.row.id, 1)
    assert not queue_of_record.unpark(queue.database, taken.row.id, 1)
    assert (stayed.status, stayed.row.attempt) == ("running", 1)


# Crash loops


def test_five_fruitless_attempts_end_it(queue: Queue) -> None:
    execution = queue.new()
    statuses = []
    for _ in range(FRUITLESS_LIMIT):
        queue_of_record.make_due(queue.database, execution.exec_id)
        execution.claim()
        statuses.append(execution.lose_process())

    assert statuses == ["pending"] * 4 + ["failed"]
    error = execution.row.error
    assert error["origin"] == "crashed"
    assert error["message"] == "5 attempts in a row ended without recording anything; the last: killed by SIGKILL"


def test_an_attempt_that_recorded_something_starts_the_count_anew(queue: Queue) -> None:
    execution = queue.new()
    for number in range(3 * FRUITLESS_LIMIT):
        queue_of_record.make_due(queue.database, execution.exec_id)
        execution.claim()
        if number % (FRUITLESS_LIMIT - 1) == 0:
            execution.write(f"key{number}")
        assert execution.lose_process() == "pending"


def test_take_overs_of_what_records_nothing_end_it_too(queue: Queue) -> None:
    execution = queue.new()
    claims = [execution.claim() for _ in range(FRUITLESS_LIMIT + 1)]

    assert [claim is not None for claim in claims] == [True] * FRUITLESS_LIMIT + [False]
    assert execution.status == "failed"
    assert "its process is gone" in execution.row.error["message"]


def test_an_attempt_that_never_began_does_not_count(queue: Queue) -> None:
    execution = queue.new()
    for _ in range(2 * FRUITLESS_LIMIT):
        queue_of_record.make_due(queue.database, execution.exec_id)
        execution.claim()
        assert execution.lose_process(counts=False) == "pending"


def test_the_crash_names_what_ran(queue: Queue) -> None:
    execution = queue.new()
    for _ in range(FRUITLESS_LIMIT):
        queue_of_record.make_due(queue.database, execution.exec_id)
        claim = execution.claim()
        assert claim is not None
        running = [{"key": "research#2", "name": "research", "tries": 1, "started_us": 1}]
        queue_of_record.beat(queue.database, claim.row, claim.attempt, running)
        execution.lose_process()

    assert execution.row.error["checkpoint"] == "research#2"


def test_pauses_grow_to_a_limit() -> None:
    pauses = [pause_after(fruitless) for fruitless in range(12)]

    assert pauses[:4] == [0.0, 0.5, 1.0, 2.0]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_SECONDS


def test_a_pause_holds_it_back_until_it_is_made_due(queue: Queue) -> None:
    execution = queue.new(status="running")
    execution.lose_process()

    assert not execution.is_claimable
    assert queue_of_record.next_due_us(queue.database) == execution.row.not_before_us > now_us()
    queue_of_record.make_due(queue.database, execution.exec_id)
    assert execution.is_claimable


# Cancel


def test_a_cancel_that_came_before_a_crash_ends_it(queue: Queue) -> None:
    execution = queue.new(status="running")
    execution.cancel()

    assert execution.lose_process() == "cancelled"
    assert not execution.is_claimable


def test_cancelling_twice_is_no_error_and_what_has_ended_is_a_conflict(queue: Queue) -> None:
    cancelled, completed = queue.new(status="cancelled"), queue.new(status="completed")

    assert cancelled.cancel() == "cancelled"
    with pytest.raises(KitaruConflictError, match="has completed already"):
        completed.cancel()


def test_a_cancel_closes_the_waits(queue: Queue) -> None:
    execution = queue.new(status="waiting")
    execution.cancel()

    with pytest.raises(KitaruConflictError, match="is closed"):
        execution.answer("approve", True)


def test_an_execution_whose_cancel_was_asked_for_does_not_park_for_ever(queue: Queue) -> None:
    execution = queue.new(status="running")
    execution.ask("approve")
    execution.cancel()
    execution.park()

    assert execution.status == "cancelled"


# Ids


def test_ids_sort_by_time_and_are_uuids_of_version_7() -> None:
    assert str(uuid7(0x017F22E279B0, bytes.fromhex("0cc318c4dc0c0c07398f"))) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"
    assert str(uuid7(1, b"\xff" * 10)) < str(uuid7(2, b"\0" * 10))
    assert len({new_execution_id() for _ in range(1000)}) == 1000


def keys_of(queue: Queue, row: int) -> list[str]:
    connection = queue.database.hold()
    try:
        return [entry.key for entry in read_rows(connection, row)]
    finally:
        connection.close()


@pytest.mark.parametrize("record", ["sqlite"], indirect=True)
def test_a_full_disk_is_said_and_nothing_is_written(queue: Queue) -> None:
    execution = queue.new(status="running")
    row, attempt = execution.row.id, execution.row.attempt
    pages = queue.writer._connection.execute("PRAGMA page_count").fetchone()[0]
    queue.writer._connection.execute(f"PRAGMA max_page_count = {pages}")

    def fill() -> None:
        for number in range(1000):
            execution.write("x" * 2000 + str(number), attempt=attempt)

    with pytest.raises(KitaruBackendError, match=r"is full; nothing of this was written"):
        fill()
    before = keys_of(queue, row)
    assert len(before) == len(set(before))
    queue.writer._connection.execute(f"PRAGMA max_page_count = {pages * 10}")
    execution.write("after", attempt=attempt)
    assert keys_of(queue, row) == [*before, "after"]


# Faults of the machine


def test_a_fault_of_the_machine_uses_up_no_attempt_and_says_why(queue: Queue) -> None:
    execution = queue.new(finish_seconds=60.0)
    for _ in range(3 * FRUITLESS_LIMIT):
        queue_of_record.make_due(queue.database, execution.exec_id)
        claim = execution.claim()
        assert claim is not None
        assert claim.attempt == 1
        assert execution.postpone(pause_seconds=5) == "pending"

    row = execution.row
    assert (row.status, row.attempt, row.fruitless_attempts, row.started_us, row.finish_by_us) == (
        "pending", 0, 0, None, None,
    )  # fmt: skip
    assert row.status_reason == "no such Python"
    assert row.not_before_us > now_us() + 4_000_000


def test_an_attempt_that_had_begun_keeps_its_number_and_is_not_counted(queue: Queue) -> None:
    execution = queue.new(status="running")

    execution.postpone(began=True)
    execution.claim()

    assert (execution.row.attempt, execution.row.fruitless_attempts) == (2, 0)


def test_what_cannot_be_executed_stands_behind_what_can(queue: Queue) -> None:
    stuck = [queue.new(digest="sha256:gone") for _ in range(queue_of_record.CLAIMABLE + 1)]
    healthy = queue.new(digest="sha256:there")
    stuck[0].claim()
    stuck[0].postpone(alike="sha256:gone", pause_seconds=0.0)

    first = queue_of_record.claimable(queue.database)[0]

    assert first.exec_id == healthy.exec_id
    assert {execution.row.status_reason for execution in stuck} == {"no such Python"}


def test_one_fault_of_a_snapshot_holds_all_of_its_executions_back_and_no_others(queue: Queue) -> None:
    alike, other = [queue.new(digest="sha256:a") for _ in range(3)], queue.new(digest="sha256:b")
    alike[0].claim()
    alike[0].postpone(alike="sha256:a", pause_seconds=30)

    assert [execution.is_claimable for execution in alike] == [False, False, False]
    assert other.is_claimable


def test_to_be_cancelled_while_the_machine_cannot_execute_it_ends_it(queue: Queue) -> None:
    execution = queue.new(status="running")
    execution.cancel()

    assert execution.postpone() == "cancelled"


def test_a_runner_that_was_stopped_leaves_what_is_due_at_once(queue: Queue) -> None:
    execution = queue.new(status="running")

    execution.lose_process(counts=False)

    assert execution.is_claimable
