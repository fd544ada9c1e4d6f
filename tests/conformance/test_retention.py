"""A deleted execution's values are nowhere; that it was stays known; what open executions need is not deleted."""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from queues import Queue, QueuedExecution
from sqlalchemy import select

from kitaru_registry.database.tables import artifacts as artifact_table
from kitaru_registry.database.tables import executions, journal, value_chunks, waits
from kitaru_registry.errors import KitaruNotFoundError, KitaruStateError, KitaruUsageError
from kitaru_registry.executions import ending, reading, retention
from kitaru_registry.executions.journal import Artifact, Row, Value
from kitaru_registry.executions.values import ValueStore, values_of
from kitaru_registry.models import ExecutionId

MARKER = b"what-must-be-gone-0123456789"
LARGE = MARKER + b"x" * 50_000


def full(queue: Queue, *, inputs: str = "input") -> QueuedExecution:
    """A completed execution with the marker wherever a value can be."""
    made = queue.new(status="running", inputs=inputs)
    writer = queue.writer
    small, large = Value("str", MARKER, None), writer.value("bytes", LARGE)
    saved = Artifact("saved", "output", ("tag",), small)
    for row in (
        Row("c", "small", 1, value=small, metadata=f'{{"seen": "{MARKER.decode()}"}}'),
        Row("c", "large", 2, value=large, artifacts=(saved,)),
        Row("c", "failed", 3, error=f'{{"message": "{MARKER.decode()}"}}'),
    ):
        writer.append(made.row.id, made.row.attempt, [row])
    made.ask("approve")
    made.answer("approve", MARKER.decode())
    folder = queue.database.home.execution(made.exec_id)
    folder.mkdir(parents=True)
    (folder / "log").write_bytes(MARKER)
    ending.finish(queue.database, made.row.id, made.row.attempt, result=small, error=None)
    with queue.database.write() as connection:
        mine = executions.update().where(executions.c.exec_id == made.exec_id)
        connection.execute(
            mine.values(inputs={"topic": MARKER.decode()}, inputs_data=MARKER, cancel_actor=MARKER.decode())
        )
    return made


def files_with(queue: Queue, text: bytes) -> list[str]:
    """Every file of the home that holds the text."""
    return [p.name for p in queue.database.home.root.rglob("*") if p.is_file() and text in p.read_bytes()]


def erase(queue: Queue, *made: QueuedExecution) -> Any:
    return retention.erase(queue.database, [m.exec_id for m in made], actor="me@laptop")


@pytest.mark.parametrize("record", ["sqlite"], indirect=True)
def test_every_byte_of_its_values_is_gone(queue: Queue) -> None:
    made = full(queue)
    assert len(files_with(queue, MARKER)) >= 3

    deleted = erase(queue, made)

    assert files_with(queue, MARKER) == []
    assert (deleted.values, deleted.bytes, deleted.left) == (1, len(LARGE), ())
    with queue.database.read() as connection:
        for table in (journal, artifact_table, waits):
            assert connection.execute(select(table)).all() == []


def test_a_tombstone_stays(queue: Queue) -> None:
    made = full(queue)
    before = made.row

    erase(queue, made)

    record = reading.get_execution(queue.database, made.exec_id)
    assert (record.status, record.status_reason) == ("completed", "deleted by me@laptop")
    assert (record.flow, record.inputs, record.result, record.checkpoints) == ("review", {}, None, ())
    assert record.deleted_at is not None
    assert (made.row.created_us, made.row.ended_us) == (before.created_us, before.ended_us)
    with pytest.raises(KitaruNotFoundError, match="are gone: deleted by me@laptop at"):
        reading.result_bytes(queue.database, made.exec_id)


def test_a_failed_one_keeps_what_kind_of_failure_it_was(queue: Queue) -> None:
    made = queue.new(status="running")
    made.finish(error={"type": "ValueError", "message": MARKER.decode(), "origin": "user_code", "traceback": "..."})

    erase(queue, made)

    record = reading.get_execution(queue.database, made.exec_id)
    assert record.error is not None
    assert (record.error.type, record.error.message, record.error.traceback) == ("ValueError", "deleted", None)
    with pytest.raises(KitaruStateError):
        ending.retry(queue.database, made.exec_id, actor="me")


def test_deleting_again_changes_nothing(queue: Queue) -> None:
    made = full(queue)
    erase(queue, made)
    before = made.row

    erase(queue, made)

    assert made.row == before


def test_its_idempotency_key_still_says_that_it_was(queue: Queue) -> None:
    made = queue.new(status="completed", key="order-1", inputs="digest")
    erase(queue, made)

    again = queue._create(key="order-1", inputs="digest")

    assert again.exec_id == made.exec_id


@pytest.mark.parametrize("status", ["pending", "running", "waiting"])
def test_an_open_one_is_not_deleted_nor_any_with_it(queue: Queue, status: str) -> None:
    done, open_one = full(queue), queue.new(status=status)

    with pytest.raises(KitaruStateError, match=f"is {status}: only an ended one can be deleted"):
        erase(queue, done, open_one)

    assert done.row.deleted_us is None
    assert files_with(queue, MARKER) != []


def test_a_child_of_an_open_parent_is_not_deleted(queue: Queue) -> None:
    parent, other = queue.new(status="running"), queue.new(status="completed")
    child = queue.new(status="completed", parent=parent.row.id, parent_key="child")
    grandchild = queue.new(status="completed", parent=other.row.id, parent_key="child")

    with pytest.raises(KitaruStateError, match=f"its parent, {parent.exec_id}, is still open"):
        erase(queue, child)
    erase(queue, grandchild)
    parent.finish()
    erase(queue, child)

    assert child.row.deleted_us is not None


def test_what_an_open_replay_was_made_of_is_not_deleted(queue: Queue) -> None:
    original = queue.new(status="completed")
    replay = queue.new(status="running", replay={"of": original.exec_id, "from": "a", "overrides": [MARKER.decode()]})

    with pytest.raises(KitaruStateError, match=f"a replay of it, {replay.exec_id}, is still open"):
        erase(queue, original)
    replay.finish()
    erase(queue, original, replay)

    assert replay.row.replay == {"of": original.exec_id, "from": "a"}


def test_what_an_open_one_needs_is_not_found(queue: Queue) -> None:
    parent, original = queue.new(status="running"), queue.new(status="completed")
    child = queue.new(status="completed", parent=parent.row.id, parent_key="child")
    replay = queue.new(status="running", replay={"of": original.exec_id, "from": "a"})

    assert retention.ended(queue.database, project="default") == []
    with pytest.raises(KitaruStateError, match="is still open"):
        retention.undeleted(queue.database, [ExecutionId(child.exec_id)])
    parent.finish()
    replay.finish()
    erase(queue, original)
    assert set(retention.ended(queue.database, project="default")) == {parent.exec_id, child.exec_id, replay.exec_id}
    ids = [ExecutionId(made.exec_id) for made in (original, child)]
    assert retention.undeleted(queue.database, ids) == [child.exec_id]


def test_a_file_that_another_execution_names_stays(queue: Queue) -> None:
    one, other = full(queue), full(queue)

    assert erase(queue, one).values == 0
    digest = other.row and queue.writer.value("bytes", LARGE).digest
    assert digest is not None
    assert values_of(queue.database).get(digest) == LARGE
    assert erase(queue, other).values == 1


def test_a_file_that_is_about_to_be_named_stays(queue: Queue) -> None:
    made, other = full(queue), queue.new(status="running")
    erased: list[Any] = []
    with queue.writer.naming():
        value = queue.writer.value("bytes", LARGE)
        deleting = threading.Thread(target=lambda: erased.append(erase(queue, made)))
        deleting.start()
        deadline = time.monotonic() + 20
        while made.row.deleted_us is None:
            assert time.monotonic() < deadline
        queue.writer.append(other.row.id, other.row.attempt, [Row("c", "large", 1, value=value)])
    deleting.join()

    assert erased[0].values == 0
    assert value.digest is not None
    assert values_of(queue.database).get(value.digest) == LARGE


def grow_old(queue: Queue, *digests: bytes) -> None:
    """As if nobody had touched these values for long."""
    store = values_of(queue.database)
    if isinstance(store, ValueStore):
        for digest in digests:
            os.utime(store._path(digest), (1, 1))
        return
    with queue.database.write() as connection:
        connection.execute(value_chunks.update().where(value_chunks.c.digest.in_(digests)).values(touched_us=1))


def test_collecting_spares_what_is_named_and_what_is_young(queue: Queue) -> None:
    made = full(queue)
    store = values_of(queue.database)
    old, young = store.put(b"old" * 10_000), store.put(b"young" * 10_000)
    named = store.put(LARGE)
    grow_old(queue, old, named)

    deleted = retention.collect(queue.database)

    assert (deleted.values, deleted.bytes) == (1, 30_000)
    assert sorted(stored.digest for stored in store.names()) == sorted([young, named])
    assert made.row.deleted_us is None


@pytest.mark.parametrize("record", ["sqlite"], indirect=True)
def test_collecting_takes_what_a_killed_writer_left_half_written(queue: Queue) -> None:
    partial = queue.database.home.values / "aa" / ".half"
    partial.parent.mkdir(parents=True)
    partial.touch()
    os.utime(partial, (1, 1))

    retention.collect(queue.database)

    assert not partial.exists()


def test_collecting_takes_the_folder_that_a_killed_deletion_left(queue: Queue) -> None:
    made, other = full(queue), full(queue)
    erase(queue, made)
    left = queue.database.home.execution(made.exec_id)
    left.mkdir(parents=True)

    retention.collect(queue.database)

    assert not left.exists()
    assert queue.database.home.execution(other.exec_id).exists()


def test_a_value_that_was_collected_is_written_again(tmp_path: Path) -> None:
    store = ValueStore(tmp_path)
    digest = store.put(LARGE)

    assert store.delete(lambda _: False, [digest]) is not None
    assert store.put(LARGE) == digest
    assert store.get(digest) == LARGE


def test_ended_ones_are_found_by_flow_status_and_end(queue: Queue) -> None:
    completed, failed = queue.new(status="completed"), queue.new(status="failed")
    queue.new(status="running")
    erase(queue, gone := queue.new(status="completed"))
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)

    def found(**given: Any) -> list[ExecutionId]:
        return retention.ended(queue.database, project="default", **given)

    assert found() == [completed.exec_id, failed.exec_id]
    assert found(status="failed", flow="review") == [failed.exec_id]
    assert found(since=an_hour_ago) == [completed.exec_id, failed.exec_id]
    assert found(before=an_hour_ago) == found(flow="other") == []
    assert gone.exec_id not in found()
    for status in ("running", "lost"):
        with pytest.raises(KitaruUsageError, match=f"--status {status} is no end"):
            found(status=status)


def test_a_project_s_policy_is_kept_in_the_home(queue: Queue) -> None:
    database, made = queue.database, queue.new(status="completed")
    retention.remember_policy(database, "default", 3_600)
    retention.remember_policy(database, "other", 60)
    assert retention.expired(database) == []

    with database.write() as connection:
        connection.execute(executions.update().values(ended_us=1))

    assert retention.expired(database) == [made.exec_id]
    retention.remember_policy(database, "default", None)
    assert retention.expired(database) == []
    assert retention.read_policies(database) == {"other": 60}


def test_policies_that_many_projects_set_at_once_are_all_kept(queue: Queue) -> None:
    projects = [f"project-{number}" for number in range(12)]
    begun = threading.Barrier(len(projects))
    raised: list[BaseException] = []

    def remember(project: str) -> None:
        begun.wait()
        try:
            for seconds in range(1, 20):
                retention.remember_policy(queue.database, project, seconds)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=remember, args=(project,)) for project in projects]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert raised == []
    assert retention.read_policies(queue.database) == dict.fromkeys(projects, 19)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "7", '"default"', "[" * 100_000, '{"default": "soon"}', '{"default": -5}', '{"default": true}'],
)
def test_policies_that_are_none_delete_nothing(queue: Queue, content: str) -> None:
    made = queue.new(status="completed")
    with queue.database.write() as connection:
        connection.execute(executions.update().values(ended_us=1))
    (queue.database.home.root / "retention.json").write_text(content)

    assert retention.expired(queue.database) == []
    retention.remember_policy(queue.database, "default", 60)
    assert retention.expired(queue.database) == [made.exec_id]


def test_a_policy_of_more_years_than_there_were_deletes_nothing(queue: Queue) -> None:
    queue.new(status="completed")
    retention.remember_policy(queue.database, "default", 10**15)

    assert retention.expired(queue.database) == []
