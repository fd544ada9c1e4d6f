"""A home is its owner's alone, and can be looked at where nothing can be written."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from queues import Queue

from kitaru import KitaruClient
from kitaru_registry.database.opening import open_database
from kitaru_registry.errors import KitaruBackendError
from kitaru_registry.executions.journal import JournalWriter
from kitaru_registry.home import Home
from kitaru_registry.stores.layout import OciLayout
from kitaru_runner.host.locks import FileLock, execution_lock

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root; CI runs as root")


@pytest.fixture
def home(registry_home: Home) -> Home:
    """With an execution, and a file of each kind."""
    database = open_database(registry_home)
    writer = JournalWriter(database)
    with writer.naming():
        writer.value("json", b"1" * 100_000)
    Queue(database, writer).new(status="running")
    lock = FileLock.acquire(execution_lock(registry_home, "id"))
    assert lock is not None
    lock.release()
    OciLayout(registry_home.layout)._prepare()
    writer.close()
    database.close()
    return registry_home


def others_may(home: Home) -> list[Path]:
    """What another user could read or write, if only the home itself were open."""
    found = []
    for folder, folders, files in os.walk(home.root):
        folders[:] = [name for name in folders if (Path(folder) / name).stat().st_mode & 0o005]
        found += [Path(folder) / name for name in folders]
        found += [Path(folder) / name for name in files if (Path(folder) / name).stat().st_mode & 0o066]
    return found


def test_nothing_in_it_is_open_to_others(home: Home) -> None:
    open_database(home).close()

    assert others_may(home) == []


def test_what_an_earlier_release_has_left_open_is_closed(home: Home) -> None:
    (home.root / "kitaru.db").chmod(0o644)
    (home.root / "executions").chmod(0o755)

    open_database(home).close()

    assert others_may(home) == []


def test_what_is_not_kitarus_is_left_as_it_is(home: Home) -> None:
    mine = home.root / "mine.sh"
    mine.touch(0o755)

    open_database(home).close()

    assert mine.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_one_that_others_may_write_to_is_refused_and_can_be_looked_at(mode: int, home: Home) -> None:
    home.root.chmod(mode)
    client = KitaruClient(home, cwd=home.root)

    assert client.status().running == 1
    with pytest.raises(KitaruBackendError, match="others may write") as raised:
        client.executions.cancel(client.executions.list()[0].exec_id)
    assert f"chmod 700 {home.root}" in (raised.value.hint or "")
    with pytest.raises(KitaruBackendError, match="others may write"):
        JournalWriter(client.database)
    checked = {check.name: check for check in client.doctor()}["home"]
    assert not checked.ok
    assert "chmod 700" in (checked.hint or "")


def test_nothing_is_made_in_a_new_one_that_others_may_write_to(tmp_path: Path) -> None:
    shared = Home(tmp_path / "shared")
    shared.root.mkdir()
    shared.root.chmod(0o777)

    with pytest.raises(KitaruBackendError, match="others may write"):
        open_database(shared)
    assert list(shared.root.iterdir()) == []


@pytest.fixture
def read_only(home: Home, tmp_path: Path) -> Iterator[Home]:
    """The same home, on a disk that cannot be written."""
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    subprocess.run(["mount", "--bind", home.root, mounted], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", mounted], check=True)
    yield Home(mounted)
    subprocess.run(["umount", "--lazy", mounted], check=True)


@as_root
def test_a_read_only_one_can_be_looked_at_and_not_be_written(read_only: Home) -> None:
    client = KitaruClient(read_only, cwd=read_only.root)

    (execution,) = client.executions.list()
    assert client.executions.get(execution.exec_id).process_gone
    assert client.status().gone == 1
    assert not {check.name: check for check in client.doctor()}["home"].ok
    with pytest.raises(KitaruBackendError, match="not writable"):
        client.executions.cancel(execution.exec_id)


@as_root
def test_a_read_only_one_whose_last_process_was_killed_can_be_looked_at(home: Home, read_only: Home) -> None:
    """What was committed last is still in the log beside the database."""
    kept = open_database(home)
    Queue(kept, JournalWriter(kept)).new()

    assert len(KitaruClient(read_only, cwd=read_only.root).executions.list()) == 2
    kept.close()
