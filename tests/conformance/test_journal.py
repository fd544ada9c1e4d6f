"""What an attempt appends to its journal: all of it or nothing, in order, fenced."""

from __future__ import annotations

import threading

import pytest
from queues import Queue

from kitaru_registry.errors import KitaruFencedError, KitaruUsageError
from kitaru_registry.executions.journal import Artifact, PlainRow, Row, Ticket, Value, read_rows
from kitaru_registry.executions.values import IN_ROW_BYTES, values_of

LARGE = b"x" * (IN_ROW_BYTES + 1)


def plain(key: str) -> PlainRow:
    return PlainRow("c", key, 7, "str", bytearray(b"value"), 3, bytearray(b"0123456789abcdef"), 5)


def rows_of(queue: Queue, row: int) -> list[Row]:
    held = queue.database.hold()
    try:
        return list(read_rows(held, row))
    finally:
        held.close()


def sizes_of(queue: Queue) -> list[int]:
    """Of the large values that lie beside the rows."""
    return sorted(stored.size for stored in values_of(queue.database).names())


def test_a_plain_row_is_read_as_any_other(queue: Queue) -> None:
    row = queue.new(status="running").row
    same = Row(
        "c", "b", 7, value=Value("str", b"value", None), place=3, inputs=b"0123456789abcdef", started_us=5
    )  # fmt: skip

    last = [queue.writer.append(row.id, row.attempt, [given]) for given in (plain("a"), same)]

    first, second = rows_of(queue, row.id)
    assert last == [1, 2]
    assert first._replace(key="b", seq=2) == second


def test_rows_of_both_forms_are_appended_together(queue: Queue) -> None:
    row = queue.new(status="running").row

    last = queue.writer.append(row.id, row.attempt, [plain("a"), Row("l", "log", 1, metadata="{}"), plain("b")])

    assert last == 3
    assert [(found.seq, found.key) for found in rows_of(queue, row.id)] == [(1, "a"), (2, "log"), (3, "b")]


@pytest.mark.parametrize("given", [[plain("a")], [Row("c", "a", 1)], [plain("a"), plain("b")]])
def test_an_attempt_that_is_over_appends_nothing(queue: Queue, given: list[Row | PlainRow]) -> None:
    row = queue.new(status="running").row

    with pytest.raises(KitaruFencedError):
        queue.writer.append(row.id, row.attempt + 1, given)

    assert rows_of(queue, row.id) == []


def test_large_bytes_of_a_row_and_of_what_it_saves_lie_beside_the_rows(queue: Queue) -> None:
    row = queue.new(status="running").row
    saved = Artifact("saved", "output", (), Value("bytes", LARGE + b"y", None))

    queue.writer.append(row.id, row.attempt, [Row("c", "a", 1, value=Value("bytes", LARGE, None), artifacts=(saved,))])

    (found,) = rows_of(queue, row.id)
    assert found.value is not None
    assert found.value.data is None
    assert sizes_of(queue) == [len(LARGE), len(LARGE) + 1]


def test_threads_that_append_at_once_leave_no_gap(queue: Queue) -> None:
    executions = [queue.new(status="running").row for _ in range(4)]
    last: dict[int, list[int]] = {row.id: [] for row in executions}

    def append(row: int, attempt: int) -> None:
        for number in range(25):
            given = plain(f"step#{number}") if number % 2 else Row("l", f"log#{number}", 1, metadata="{}")
            last[row].append(queue.writer.append(row, attempt, [given]))

    threads = [threading.Thread(target=append, args=(row.id, row.attempt)) for row in executions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for row in executions:
        assert last[row.id] == list(range(1, 26))
        assert [found.seq for found in rows_of(queue, row.id)] == last[row.id]


BAD_TEXT = "r\udce9sum\udce9.pdf"
"""As os.listdir gives a name that is no UTF-8."""

UNWRITABLE: dict[str, list[Row | PlainRow]] = {
    "the key of a plain row": [plain(BAD_TEXT)],
    "the key": [Row("c", BAD_TEXT, 1)],
    "the error": [Row("c", "a", 1, error=BAD_TEXT)],
    "what it saved": [Row("c", "a", 1, artifacts=(Artifact(BAD_TEXT, "output", (), Value("str", b"x", None)),))],
    "the last of three": [plain("a"), Row("l", "log", 1, metadata="{}"), Row("c", BAD_TEXT, 1)],
    "a number": [Row("c", "a", 1 << 63)],
    "an object": [Row("c", "a", 1, type=object())],  # type: ignore[arg-type]
}


@pytest.mark.parametrize("given", UNWRITABLE.values(), ids=UNWRITABLE)
def test_what_cannot_be_written_is_refused_and_leaves_nothing_open(
    queue: Queue, given: list[Row | PlainRow]
) -> None:  # fmt: skip
    row, other = queue.new(status="running").row, queue.new(status="running").row

    with pytest.raises(KitaruUsageError, match="cannot be recorded"):
        queue.writer.append(row.id, row.attempt, given)

    queue.new()  # another connection writes
    assert queue.writer.append(other.id, other.attempt, [plain("a")]) == 1
    assert queue.writer.append(row.id, row.attempt, [plain("a")]) == 1
    assert [len(rows_of(queue, each.id)) for each in (row, other)] == [1, 1]


def appended_together(queue: Queue, *given: tuple[int, int, list[Row | PlainRow]]) -> list[int | BaseException]:
    """What each heard, all of which were written in one commit."""
    heard: dict[int, int | BaseException] = {}
    arrived = threading.Barrier(len(given) + 1)

    def append(number: int, row: int, attempt: int, rows: list[Row | PlainRow]) -> None:
        arrived.wait()
        try:
            heard[number] = queue.writer.append(row, attempt, rows)
        except Exception as error:
            heard[number] = error

    threads = [threading.Thread(target=append, args=(number, *each)) for number, each in enumerate(given)]
    with queue.writer._commit_lock:
        for thread in threads:
            thread.start()
        arrived.wait()
        while len(queue.writer._queue) < len(given):
            threading.Event().wait(0.001)
    for thread in threads:
        thread.join()
    return [heard[number] for number in range(len(given))]


def test_what_cannot_be_written_costs_those_who_share_its_commit_nothing(queue: Queue) -> None:
    good = [queue.new(status="running").row for _ in range(3)]
    bad = [queue.new(status="running").row for _ in UNWRITABLE]
    calls = [(row.id, row.attempt, rows) for row, rows in zip(bad, UNWRITABLE.values(), strict=True)]
    for at, row in zip((0, 3, len(calls) + 2), good, strict=True):
        calls.insert(at, (row.id, row.attempt, [plain("a"), plain("b")]))

    heard = dict(zip([call[0] for call in calls], appended_together(queue, *calls), strict=True))

    assert [heard[row.id] for row in good] == [2, 2, 2]
    assert all(isinstance(heard[row.id], KitaruUsageError) for row in bad)
    assert [[found.key for found in rows_of(queue, row.id)] for row in good] == [["a", "b"]] * 3
    assert not any(rows_of(queue, row.id) for row in bad)


def test_an_error_in_one_ear_keeps_nobody_else_from_hearing(queue: Queue) -> None:
    first, second = (queue.new(status="running").row for _ in range(2))
    heard: list[int] = []

    def deaf(last: int) -> None:
        raise LookupError(last)

    with queue.writer._commit_lock:
        tickets = [
            Ticket(first.id, first.attempt, [plain("a")], deaf),
            Ticket(second.id, second.attempt, [plain("a")], heard.append),
        ]
        queue.writer._commit(tickets)

    assert heard == [1]
    assert isinstance(tickets[0].error, LookupError)
    assert [ticket.done for ticket in tickets] == [True, True]
