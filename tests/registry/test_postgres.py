"""A record in PostgreSQL when the server is not as it should be."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from postgres_server import LASTING, Server, free_port, server
from queues import Queue
from registries import Record

from kitaru_registry.errors import KitaruBackendError, KitaruUsageError
from kitaru_registry.executions.journal import JournalWriter, PlainRow, read_rows
from kitaru_registry.home import Home

APPENDS = 200


@pytest.fixture
def lasting() -> Iterator[Server]:
    """A server that is to be killed, and keeps what it said was committed."""
    with server(LASTING) as started:
        yield started


def test_a_server_that_is_killed_loses_nothing_and_repeats_nothing(lasting: Server, tmp_path: Path) -> None:
    database = Record(Home(tmp_path / "home", record=lasting.new_record())).open()
    writer = JournalWriter(database)
    execution = Queue(database, writer).new(status="running")
    row, attempt = execution.row.id, execution.row.attempt
    numbers: list[int] = []
    some = [threading.Event() for _ in range(2)]

    def append() -> None:
        for number in range(APPENDS):
            numbers.append(execution.writer.append(row, attempt, [plain(f"step#{number}")]))
            for at, event in zip((50, 120), some, strict=True):
                if number == at:
                    event.set()

    thread = threading.Thread(target=append)
    thread.start()
    for event in some:
        assert event.wait(60)
        lasting.stop("immediate")
        lasting.start()
    thread.join(60)

    with database.holding() as held:
        found = [(entry.seq, entry.key) for entry in read_rows(held, row)]
    assert numbers == list(range(1, APPENDS + 1))
    assert found == [(number + 1, f"step#{number}") for number in range(APPENDS)]
    writer.close()
    database.close()


def plain(key: str) -> PlainRow:
    return PlainRow("c", key, 7, "str", bytearray(b"value"), 3, bytearray(b"0123456789abcdef"), 5)


def home_at(tmp_path: Path, url: str) -> Record:
    return Record(Home(tmp_path / "home", record=url))


def test_a_server_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(KitaruBackendError, match=r"cannot be reached: .*refused") as raised:
        home_at(tmp_path, f"postgresql://ada:secret@127.0.0.1:{free_port()}/team").open()

    assert "\n" not in raised.value.message
    assert "secret" not in raised.value.message


def test_a_database_without_a_record_names_the_command(postgres_server: Server, tmp_path: Path) -> None:
    with pytest.raises(KitaruBackendError, match="there is no record in") as raised:
        home_at(tmp_path, postgres_server.url(postgres_server.new_database())).open()

    assert raised.value.hint == "kitaru migrate"


@pytest.mark.parametrize(("version", "serves_from", "hint"), [(3, 3, "kitaru migrate"), (9, 9, "a newer Kitaru")])
def test_a_schema_that_is_not_served_is_refused(
    version: int, serves_from: int, hint: str, postgres_server: Server, tmp_path: Path
) -> None:
    url = postgres_server.new_record()
    name = url.rpartition("/")[2]
    postgres_server.run(f"UPDATE schema_versions SET version={version}, serves_from={serves_from}", database=name)

    with pytest.raises(KitaruBackendError, match=f"schema {version}") as raised:
        home_at(tmp_path, url).open()

    assert hint in (raised.value.hint or "")


def test_a_role_that_may_only_read_is_told_so_and_can_read(postgres_server: Server, tmp_path: Path) -> None:
    url = postgres_server.new_record()
    name = url.rpartition("/")[2]
    postgres_server.run("DO $$ BEGIN CREATE ROLE reader LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    postgres_server.run("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader", database=name)
    database = home_at(tmp_path, postgres_server.url(name, user="reader")).open()

    assert database.health().ok
    with pytest.raises(KitaruBackendError, match="the role reader may only read it"):
        database.require_writable()
    database.close()


@pytest.mark.parametrize("said", ["mysql://host/x", "no url at all"])
def test_what_is_no_url_of_a_record_is_refused(said: str, tmp_path: Path) -> None:
    with pytest.raises(KitaruUsageError):
        home_at(tmp_path, said).open()


def test_a_variable_that_is_not_set_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEAM_DATABASE", raising=False)
    home = replace(Home(tmp_path / "home"), record="env:TEAM_DATABASE")

    with pytest.raises(KitaruUsageError, match="TEAM_DATABASE is not set"):
        Record(home).open()
