"""A local runner that is started while somebody still looks at what it would take over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from kitaru.early import runner_on_hold, start_runner_on_hold
from kitaru.testing.homes import processes_of
from kitaru_registry.database.opening import open_database
from kitaru_registry.home import Home
from kitaru_runner.host import presence
from kitaru_runner.host.locks import is_held

PATIENCE_SECONDS = 30


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """One that had a local runner."""
    home = Home(tmp_path / "home")
    monkeypatch.setenv("KITARU_HOME", str(home.root))
    open_database(home).close()
    home.runner.mkdir()
    yield home
    if is_held(presence.local_lock(home)):
        presence.wait_for_runner(home)
        presence.stop_local(home)


def test_it_looks_for_work_only_when_the_hold_ends(home: Home, tmp_path: Path) -> None:
    with runner_on_hold(tmp_path):
        until_started(home)
        assert presence.list_runners(home) == []

    assert presence.wait_for_runner(home).local


def test_one_that_was_started_before_is_held_too(home: Home, tmp_path: Path) -> None:
    start_runner_on_hold(tmp_path)
    with runner_on_hold(tmp_path):
        until_started(home)
        assert presence.list_runners(home) == []

    assert presence.wait_for_runner(home).local


def test_while_one_starts_nobody_starts_a_second(home: Home, tmp_path: Path) -> None:
    with runner_on_hold(tmp_path):
        assert is_held(presence.local_lock(home))
        presence.ensure_runner(home)
        presence.start_local(home)
        until_started(home)

        assert len(processes_of(home)) == 1


def test_one_that_does_not_come_to_start_keeps_nobody_else_from_it(home: Home) -> None:
    presence.start_local(home, ["--no-such-option"])
    until(lambda: not is_held(presence.local_lock(home)))

    presence.ensure_runner(home)

    assert presence.wait_for_runner(home).local


def test_a_home_that_had_no_runner_gets_none(home: Home, tmp_path: Path) -> None:
    home.runner.rmdir()

    with runner_on_hold(tmp_path):
        assert not home.runner.exists()


@pytest.mark.parametrize("said", ["[runner]\nautostart = false\n", '[journal]\nsynchronous = "NORMAL"\n'])
def test_what_a_project_says_of_runners_is_left_to_whoever_has_read_it(home: Home, tmp_path: Path, said: str) -> None:
    (tmp_path / "kitaru.toml").write_text(said)

    with runner_on_hold(tmp_path):
        assert not (home.runner / "log").exists()


def test_a_project_that_says_the_default_gets_its_runner_early(home: Home, tmp_path: Path) -> None:
    (tmp_path / "kitaru.toml").write_text('[journal]\nsynchronous = "FULL"\n')

    with runner_on_hold(tmp_path):
        until_started(home)

    assert presence.wait_for_runner(home).local


def until_started(home: Home) -> None:
    """Until its process has opened the database, which it does before it begins to work."""
    until(lambda: any(home.database in files_of(pid) for pid in processes_of(home)))


def files_of(pid: int) -> list[Path]:
    found = []
    with suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                found.append(descriptor.readlink())
    return found


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)
