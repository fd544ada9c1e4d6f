"""Behaviours of a seam: each test runs on every implementation that there is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from queues import Queue
from registries import Record, Registry

from kitaru_registry.database.opening import Database
from kitaru_registry.executions.journal import JournalWriter
from kitaru_registry.home import Home

DATABASES = ("sqlite", "postgres")


@pytest.fixture(params=DATABASES)
def record(request: pytest.FixtureRequest, tmp_path: Path) -> Record:
    """An empty record, in each kind of database."""
    home = Home(tmp_path / "home")
    if request.param == "sqlite":
        return Record(home)
    return Record(replace(home, record=request.getfixturevalue("postgres_server").new_record()))


@pytest.fixture
def database(record: Record) -> Iterator[Database]:
    opened = record.open()
    yield opened
    opened.close()


@pytest.fixture
def registry(database: Database) -> Registry:
    return Registry(database)


@pytest.fixture
def queue(database: Database) -> Iterator[Queue]:
    """Executions without versions behind them."""
    writer = JournalWriter(database)
    yield Queue(database, writer)
    writer.close()
