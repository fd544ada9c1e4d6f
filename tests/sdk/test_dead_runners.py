"""A runner that died shows at once, everywhere; whatever command looks at its home lets its work go on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from queues import Queue, QueuedExecution

from kitaru import KitaruClient
from kitaru_cli import main
from kitaru_registry.database.opening import open_database
from kitaru_registry.executions.journal import JournalWriter
from kitaru_registry.home import Home
from kitaru_runner.host import presence
from kitaru_runner.host.locks import FileLock, execution_lock


@pytest.fixture
def queue(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    monkeypatch.chdir(tmp_path)
    database = open_database(home)
    writer = JournalWriter(database)
    yield Queue(database, writer)
    writer.close()
    database.close()


@pytest.fixture
def lost(queue: Queue) -> QueuedExecution:
    """Its runner has died a moment ago: its lease is not over."""
    return queue.new(status="running")


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main.run([*arguments])
    return capsys.readouterr().out


@pytest.fixture
def stays(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody goes on with anything."""
    presence.stop_mark(home).parent.mkdir(mode=0o700)
    presence.stop_mark(home).touch()


@pytest.mark.usefixtures("stays")
def test_status_list_and_doctor_say_that_its_process_is_gone(
    lost: QueuedExecution, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    client = KitaruClient(home)

    assert client.status().gone == 1
    assert "running (process gone)" in shown(capsys, "status")
    assert "running (process gone)" in shown(capsys, "executions", "list")
    assert client.executions.list()[0].process_gone
    assert main.run(["doctor"]) == 1
    assert f"1 overdue: {lost.exec_id}" in capsys.readouterr().out


@pytest.mark.usefixtures("stays")
def test_one_whose_process_lives_is_just_running(lost: QueuedExecution, home: Home) -> None:
    lock = FileLock.acquire(execution_lock(home, lost.exec_id))
    assert lock is not None
    client = KitaruClient(home)

    assert client.status().gone == 0
    assert not client.executions.list()[0].process_gone
    lock.release()


@pytest.mark.parametrize("command", [("status",), ("executions", "list"), ("waits", "list"), ("flows",)])
def test_whatever_command_looks_lets_it_go_on(
    command: tuple[str, ...], lost: QueuedExecution, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    main.run(list(command))

    assert presence.wait_for_runner(home).local
    presence.stop_local(home)


@pytest.mark.usefixtures("lost")
def test_not_where_the_project_starts_no_runners(home: Home, tmp_path: Path) -> None:
    (tmp_path / "kitaru.toml").write_text("[runner]\nautostart = false\n")

    main.run(["status"])

    assert not home.runner.exists()


@pytest.mark.usefixtures("lost", "stays")
def test_not_where_the_runner_was_stopped_on_purpose(home: Home) -> None:
    main.run(["status"])

    assert presence.list_runners(home) == []
    presence.start_local(home)
    presence.wait_for_runner(home)
    assert not presence.was_stopped(home)
    presence.stop_local(home)
    assert presence.was_stopped(home)


def test_not_where_nothing_is_to_be_done(queue: Queue, home: Home) -> None:
    queue.new(status="completed")

    main.run(["status"])

    assert not home.runner.exists()
