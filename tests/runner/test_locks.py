"""Locks tell who lives; whoever looks is in nobody's way."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kitaru_registry.errors import KitaruBackendError
from kitaru_registry.home import Home
from kitaru_runner.host import locks, presence
from kitaru_runner.host.locks import FileLock, holder, is_held

SLEEPER = [sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "held" / "lock"


def test_one_has_it_and_others_see_who(path: Path) -> None:
    assert not is_held(path)
    lock = FileLock.acquire(path)
    assert lock is not None
    lock.write("me")

    assert is_held(path)
    assert holder(path) == "me"
    assert FileLock.acquire(path) is None

    lock.release()
    assert holder(path) is None


def test_a_process_that_inherits_it_holds_it_too(path: Path) -> None:
    lock = FileLock.acquire(path)
    assert lock is not None
    child = subprocess.Popen(
        SLEEPER, pass_fds=[lock.descriptor], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    child.stdout.readline()

    lock.release()
    assert is_held(path)

    child.communicate()
    assert not is_held(path)


def test_to_look_takes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken as an instant shared lock would take it, it could not be acquired at that instant."""
    path.parent.mkdir()
    path.touch()
    asked = fcntl.fcntl

    def look(descriptor: int, command: int, argument: bytes) -> bytes:
        lock = FileLock.acquire(path) if command == fcntl.F_OFD_GETLK else None
        found: bytes = asked(descriptor, command, argument)
        if command == fcntl.F_OFD_GETLK:
            assert lock is not None, "whoever looks has it"
            lock.release()
        return found

    monkeypatch.setattr(locks.fcntl, "fcntl", look)
    assert is_held(path)


def test_one_that_is_held_as_earlier_releases_hold_it_cannot_be_acquired(path: Path) -> None:
    path.parent.mkdir()
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert FileLock.acquire(path) is None


def test_a_lock_can_be_looked_at_where_nothing_can_be_written(path: Path) -> None:
    lock = FileLock.acquire(path)
    assert lock is not None
    path.chmod(0o400)
    path.parent.chmod(0o500)

    assert is_held(path)
    lock.release()


def test_a_runner_that_ends_while_somebody_looks_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path / "home")
    home.runner.mkdir(parents=True)
    announced = presence.announce(home, presence.Presence(os.getpid(), 1, "0", local=True))
    assert [found.pid for found in presence.list_runners(home)] == [os.getpid()]
    opened = os.open

    def end_first(*arguments: object, **more: object) -> int:
        if announced.path.exists():
            announced.release(remove=True)
        return opened(*arguments, **more)  # type: ignore[arg-type]  # handed on as they came

    monkeypatch.setattr(locks.os, "open", end_first)
    assert presence.list_runners(home) == []


def test_what_stands_in_the_place_of_its_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "executions").write_text("")

    with pytest.raises(KitaruBackendError, match="executions"):
        FileLock.acquire(tmp_path / "executions" / "id" / "lock")
    assert not is_held(tmp_path / "executions" / "id" / "lock")
