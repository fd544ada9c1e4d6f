"""Rows of docs/coming-from.md: the command line; and that every row has its test."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rows import row, rows_of_page, tested

Run = Callable[..., Any]

FLOWS = """
from kitaru import checkpoint, flow, wait

@checkpoint
def draft(topic):
    print("drafting", topic)
    return f"About {topic}"

@flow
def review(topic: str):
    text = draft(topic)
    return text if wait(name="approve", schema=bool) else "Rejected"

@flow
def fails():
    raise OSError("no disk")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "code"
    made.mkdir()
    (made / "flows.py").write_text(FLOWS)
    return made


def started(run_cli: Run, folder: Path) -> str:
    given = '{"topic": "tea"}'
    return str(run_cli("run", "flows.py:review", "--input", given, cwd=folder, expect=6).item["exec_id"])


@row("kitaru executions get ID", "kitaru executions list --status --flow --limit --page --size", "-o json")
@row("kitaru executions input ID --value JSON", "kitaru executions logs ID --follow")
@row("kitaru executions replay ID --from SEL --args J --overrides J")
def test_executions_are_read_answered_followed_and_replayed(run_cli: Run, folder: Path) -> None:
    exec_id = started(run_cli, folder)

    assert run_cli("executions", "get", exec_id).item["status"] == "waiting"
    listed = run_cli("executions", "list", "--status", "waiting", "--flow", "review", "--page", "1", "--size", "5")
    assert (listed.json["command"], listed.json["count"]) == ("executions.list", 1)
    run_cli("executions", "input", exec_id, "--value", "true")
    assert "drafting tea" in run_cli.text("executions", "logs", exec_id, "--follow").stdout
    assert run_cli("executions", "get", exec_id).item["result"] == "About tea"
    again = run_cli(
        "executions", "replay", exec_id, "--from", "draft", "--args", '{"topic": "agents"}',
        "--overrides", '{"wait.approve": false}',
    ).item  # fmt: skip
    assert again["result"] == "Rejected"
    assert run_cli("executions", "get", "0" * 12, expect=3).error["type"] == "KitaruNotFoundError"


@row("kitaru executions input ID --abort")
def test_a_wait_is_aborted(run_cli: Run, folder: Path) -> None:
    exec_id = started(run_cli, folder)

    run_cli("executions", "input", exec_id, "--abort")
    run_cli.text("executions", "logs", exec_id, "--follow", expect=1)

    assert run_cli("executions", "get", exec_id).item["error"]["type"] == "KitaruWaitAborted"


@row("kitaru executions retry ID", "kitaru executions resume ID", "kitaru executions cancel ID")
def test_executions_are_retried_resumed_and_cancelled(run_cli: Run, folder: Path) -> None:
    failed = run_cli("run", "flows.py:fails", cwd=folder, expect=1).item["exec_id"]
    waiting = started(run_cli, folder)

    assert run_cli("executions", "retry", failed, expect=1).item["attempt"] == 2
    assert run_cli("executions", "resume", failed, expect=4).error["type"] == "KitaruStateError"
    assert run_cli("executions", "cancel", waiting).item["status"] == "cancelled"


def test_every_row_of_the_page_is_exercised() -> None:
    for area in ("flows", "checkpoints", "waits", "executions"):
        importlib.import_module(f"tests.coming_from.test_{area}")

    assert [name for name in rows_of_page() if name not in tested] == []
    assert [name for name in tested if name not in rows_of_page()] == []
