"""A client closes what it opened when it goes, and shares it with the others of its home until then."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from kitaru import KitaruClient
from kitaru.databases import shared
from kitaru_registry.home import Home


def open_files(home: Home) -> int:
    """How often this process has the home's database open."""
    return sum(link.resolve() == home.database.resolve() for link in Path("/proc/self/fd").iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_a_client_closes_its_database_at_the_end_of_its_block(folder: Path) -> None:
    with KitaruClient(folder) as client:
        client.executions.list()
        assert open_files(client.home)

    assert not open_files(client.home)


def test_what_another_client_uses_stays_open(folder: Path) -> None:
    other = KitaruClient(folder)
    with KitaruClient(folder) as client:
        assert client.database is other.database

    assert other.executions.list() == []
    assert open_files(other.home)
    other.close()
    assert not open_files(other.home)


def test_a_client_that_goes_is_as_good_as_one_that_is_closed(folder: Path, tmp_path: Path) -> None:
    KitaruClient(folder).executions.list()
    gc.collect()

    with KitaruClient(tmp_path / "other") as other:
        other.executions.list()
        assert not open_files(Home(folder))


def test_clients_that_come_one_after_another_open_the_database_once(folder: Path) -> None:
    opened = []
    for _ in range(3):
        opened.append(id(KitaruClient(folder).database))
        gc.collect()

    assert len(set(opened)) == 1
    shared.drop(folder)


def test_a_client_that_was_closed_can_be_used_again(folder: Path) -> None:
    client = KitaruClient(folder)
    client.close()
    client.close()

    with client:
        assert client.executions.list() == []
    assert not open_files(client.home)


def test_closing_one_home_leaves_the_others_open(folder: Path, tmp_path: Path) -> None:
    with KitaruClient(tmp_path / "other") as other:
        other.executions.list()
        with KitaruClient(folder) as client:
            client.executions.list()

        assert open_files(other.home)
        assert not open_files(client.home)
