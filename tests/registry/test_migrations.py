"""A home that an earlier release wrote is brought up to date when it is opened, and goes on where it stood."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from kitaru_registry.database.opening import Database, open_database
from kitaru_registry.database.tables import SCHEMA_VERSION, metadata
from kitaru_registry.errors import KitaruBackendError
from kitaru_registry.executions import queue, reading, waits
from kitaru_registry.executions.journal import read_rows
from kitaru_registry.home import Home, prepare
from kitaru_registry.models import ExecutionId

DUMP = Path(__file__).with_name("schema-1.sql")
EXECUTION = ExecutionId("01a20a00-0000-7000-8000-000000000001")


@pytest.fixture
def old_home(home: Home) -> Home:
    """As release 0.1.0 left it: one execution that waits behind one checkpoint."""
    prepare(home)
    connection = sqlite3.connect(home.database)
    connection.executescript(DUMP.read_text())
    connection.close()
    return home


def shape(database: Database) -> dict[str, tuple[set[str], set[str | None]]]:
    """Columns and indexes of each table."""
    held = database.hold()
    found = {
        table: (
            {name for _, name, *_ in held.connection.execute(f"PRAGMA table_info({table})")},
            {name for _, name, *_ in held.connection.execute(f"PRAGMA index_list({table})")},
        )
        for table in metadata.tables
    }
    held.close()
    return found


def test_it_gets_every_column_and_index_of_a_new_one(old_home: Home, tmp_path: Path) -> None:
    brought, new = open_database(old_home), open_database(Home(tmp_path / "new"))

    assert shape(brought) == shape(new)
    brought.close()
    new.close()


def test_what_it_recorded_is_there_and_its_wait_can_be_answered(old_home: Home) -> None:
    database = open_database(old_home)
    held = database.hold()

    assert [(row.kind, row.key, row.flags) for row in read_rows(held, 1)] == [("c", "research", None)]
    assert reading.get_execution(database, EXECUTION).status == "waiting"
    waits.answer(database, EXECUTION, "approve", True, actor="ada@laptop", door="test")
    claim = queue.claim(database, queue.candidate(database, EXECUTION), queue.Owner("runner:2", 2, "here"))

    assert claim is not None
    assert (claim.attempt, claim.cache, claim.replay) == (2, None, None)
    held.close()
    database.close()


def test_to_open_it_again_changes_nothing(old_home: Home) -> None:
    for _ in range(2):
        open_database(old_home).close()

    connection = sqlite3.connect(old_home.database)
    assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    connection.close()


def test_a_newer_schema_is_refused_and_left_alone(old_home: Home) -> None:
    connection = sqlite3.connect(old_home.database)
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    connection.close()

    with pytest.raises(KitaruBackendError, match=f"has schema {SCHEMA_VERSION + 1}"):
        open_database(old_home)
