"""What is pickled, where others write to the record too: read by the snapshot that wrote it, or on trust."""

from __future__ import annotations

import pytest
from queues import Queue
from registries import digest_of

from kitaru_registry.executions.attempt_journal import RegistryJournal
from kitaru_registry.executions.journal import Row, Value
from kitaru_registry.home import Home

KEY = b"a key of sixteen"
ONE, OTHER = digest_of("one"), digest_of("other")
PICKLE, PLAIN = "pickle-3.11", "json"


@pytest.fixture
def shared(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> Queue:
    """In a home of another user where the record is a home's own file."""
    if queue.database.home.is_own:
        monkeypatch.setattr(Home, "is_own", property(lambda home: False))
    return queue


def journal_of(queue: Queue, digest: str | None) -> RegistryJournal:
    claim = queue.new(digest=digest).claim()
    assert claim is not None
    return RegistryJournal(queue.database, queue.writer, claim, stays=False)


def record_outcome(queue: Queue, digest: str | None, codec: str, ended_us: int = 1) -> None:
    row = queue.new(digest=digest, status="running").row
    value = Value(codec, f"{codec} {ended_us}".encode(), None)
    queue.writer.append(row.id, row.attempt, [Row("c", "step", ended_us, value=value, cache_key=KEY)])


def found_by(queue: Queue, digest: str | None) -> str | None:
    found = journal_of(queue, digest).cached(KEY)
    return None if found is None else bytes(found[0].data).decode()


def test_a_cached_pickle_is_read_by_the_same_snapshot_alone(shared: Queue) -> None:
    record_outcome(shared, ONE, PICKLE)

    assert found_by(shared, ONE) == "pickle-3.11 1"
    assert found_by(shared, OTHER) is None
    assert found_by(shared, None) is None


def test_a_cached_pickle_of_no_snapshot_is_read_by_none(shared: Queue) -> None:
    record_outcome(shared, None, PICKLE)

    assert [found_by(shared, digest) for digest in (None, ONE)] == [None, None]


def test_a_newer_pickle_of_others_hides_nothing(shared: Queue) -> None:
    record_outcome(shared, OTHER, PLAIN, 1)
    record_outcome(shared, ONE, PICKLE, 2)
    record_outcome(shared, OTHER, PICKLE, 3)

    assert found_by(shared, ONE) == "pickle-3.11 2"
    assert found_by(shared, None) == "json 1"


def test_plain_data_is_read_whoever_wrote_it(shared: Queue) -> None:
    record_outcome(shared, OTHER, PLAIN)

    assert [found_by(shared, digest) for digest in (ONE, None)] == ["json 1", "json 1"]


def test_in_a_record_of_one_s_own_any_cached_pickle_is_read(queue: Queue) -> None:
    record_outcome(queue, OTHER, PICKLE)

    is_own = queue.database.dialect.is_own
    assert found_by(queue, ONE) == ("pickle-3.11 1" if is_own else None)
