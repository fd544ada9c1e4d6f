"""`testing.home` and `testing.Clock`: what runs for real, in a home that is gone afterwards, by a test's clock."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import tested_flows as flows

from kitaru import KitaruClient, KitaruStateError, KitaruUsageError, testing
from kitaru.databases import shared
from kitaru.running import runs
from kitaru.testing.homes import processes_of
from kitaru_runner.host import presence

PATIENCE_SECONDS = 60


def test_everything_in_it_uses_the_home_and_it_is_gone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KITARU_HOME", str(tmp_path / "own"))
    with testing.home() as client:
        root = client.home.root
        handle = flows.asks_twice.run()
        for answer in ("a", "b"):
            handle.until_settled(timeout=PATIENCE_SECONDS)
            client.executions.input(handle.exec_id, value=answer)

        assert handle.wait(timeout=PATIENCE_SECONDS) == ["a", "b"]
        assert KitaruClient().executions.get(handle.exec_id).status == "completed"
        assert os.environ["KITARU_HOME"] == str(root)

    assert not root.exists()
    assert os.environ["KITARU_HOME"] == str(tmp_path / "own")
    assert not (tmp_path / "own").exists()


def test_without_a_home_before_there_is_none_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KITARU_HOME", raising=False)
    with testing.home():
        pass

    assert "KITARU_HOME" not in os.environ


def test_what_still_waits_is_ended_with_it() -> None:
    with testing.home() as client:
        handle = flows.asks_twice.run()
        handle.until_settled(timeout=PATIENCE_SECONDS)
        root = client.home.root

    assert handle.exec_id not in runs
    assert not shared.is_open(root)


@pytest.mark.parametrize("waits_for_it", [True, False])
def test_its_runner_is_ended_with_it_even_one_that_has_just_been_started(waits_for_it: bool) -> None:
    with testing.home() as client:
        if waits_for_it:
            client.runner.start()
        else:
            presence.start_local(client.home)
        assert client.home.runner.exists()

    assert not processes_of(client.home)
    assert not client.home.root.exists()


def test_a_home_is_gone_after_a_failure_too() -> None:
    with pytest.raises(ZeroDivisionError), testing.home() as client:
        raise ZeroDivisionError

    assert not client.home.root.exists()


def test_two_at_a_time_are_refused() -> None:
    with testing.home() as client:
        with pytest.raises(KitaruStateError, match="a test home is in use already"), testing.home():
            pass
        assert client.home.root.exists()


def test_a_run_is_in_the_home_that_is_in_use() -> None:
    with testing.home() as client:
        outcome = testing.run(flows.order, "tea")

        assert client.executions.get(outcome.exec_id).result == "refused"
        assert [found.exec_id for found in client.executions.list()] == [outcome.exec_id]


def test_a_run_s_own_home_is_gone_and_its_clock_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KITARU_HOME", str(tmp_path / "own"))
    used = Path(testing.run(flows.tells_home).result)

    assert used != tmp_path / "own"
    assert not used.exists()
    assert not (tmp_path / "own").exists()
    with testing.Clock():
        pass


def test_time_passes_when_the_clock_is_moved() -> None:
    with testing.home() as client, testing.Clock() as clock:
        handle = flows.order.run("tea")
        handle.until_settled(timeout=PATIENCE_SECONDS)
        clock.advance(days=2)
        assert client.executions.status(handle.exec_id) == "waiting"
        clock.advance(days=1)

        assert handle.wait(timeout=PATIENCE_SECONDS) == "refused"
        execution = client.executions.get(handle.exec_id)
        assert execution.ended_at is not None
        assert execution.ended_at - execution.created_at == timedelta(days=3)


def test_a_clock_goes_forward_only_and_alone() -> None:
    with testing.Clock(datetime(2031, 5, 1, tzinfo=UTC)) as clock:
        with pytest.raises(KitaruUsageError, match="is before that"):
            clock.set(datetime(2031, 4, 30, tzinfo=UTC))
        with pytest.raises(KitaruUsageError, match="has no time zone"):
            clock.set(datetime(2031, 6, 1))
        with pytest.raises(KitaruStateError, match="another test clock is in use"), testing.Clock():
            pass
        assert clock.advance(weeks=1, hours=1) == datetime(2031, 5, 8, 1, tzinfo=UTC)
        assert clock.advance(timedelta(days=1)) == datetime(2031, 5, 9, 1, tzinfo=UTC)
        assert clock.advance(60) == datetime(2031, 5, 9, 1, 1, tzinfo=UTC)


def test_kitaru_itself_does_not_import_it_and_it_needs_no_test_framework() -> None:
    said = "import sys, kitaru; kitaru.flow; assert 'kitaru.testing' not in sys.modules; import kitaru.testing; "
    code = said + "assert not {'pytest', '_pytest', 'hypothesis'} & set(sys.modules)"

    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")


def test_the_public_names_are_these() -> None:
    assert testing.__all__ == [
        "Clock",
        "Entry",
        "ExplorationFailed",
        "Outcome",
        "crash_at",
        "crash_everywhere",
        "explore",
        "home",
        "run",
    ]
    page = (Path(__file__).resolve().parents[2] / "docs" / "testing.md").read_text()
    assert [name for name in testing.__all__ if f"testing.{name}" not in page and f"`{name}" not in page] == []
    assert all(getattr(testing, name).__doc__ for name in testing.__all__)
