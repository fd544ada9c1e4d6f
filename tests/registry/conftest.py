"""A registry, and a store, of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from queues import Queue
from registries import Registry

from kitaru_registry.database.opening import open_database
from kitaru_registry.executions.journal import JournalWriter
from kitaru_registry.home import Home
from kitaru_registry.stores.layout import OciLayout


@pytest.fixture
def registry_home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def registry(registry_home: Home) -> Iterator[Registry]:
    database = open_database(registry_home, synchronous="NORMAL")
    yield Registry(database)
    database.close()


@pytest.fixture
def store(tmp_path: Path) -> OciLayout:
    return OciLayout(tmp_path / "layout")


@pytest.fixture
def queue(registry: Registry) -> Iterator[Queue]:
    """Executions without versions behind them."""
    writer = JournalWriter(registry.database)
    yield Queue(registry.database, writer)
    writer.close()
