"""`kitaru deploy`, `invoke` and `runner`, with an environment, a runner and a child of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Kitaru
    from tests.conftest import Cli

FLOWS = """
import time
from kitaru import checkpoint, flow, wait


@checkpoint
def draft(topic: str) -> str:
    print("drafting", topic)
    return f"About {topic}"


@flow
def review(topic: str, impatient: bool = False) -> str:
    text = draft(topic)
    if impatient:
        raise ValueError("no time")
    return text if wait(name="approve", question="Publish?", schema=bool) else "Rejected"
"""
INPUT = '{"topic": "agents"}'
PATIENCE_SECONDS = 60


@pytest.fixture
def deployed(run_cli: Cli) -> dict[str, Any]:
    (run_cli.folder / "flows.py").write_text(FLOWS)
    return run_cli("deploy", "flows.py:review").item


@pytest.mark.usefixtures("deployed")
def test_a_deployed_flow_is_invoked_answered_and_ends(run_cli: Cli) -> None:
    waiting = run_cli("invoke", "review", "--input", INPUT, expect=6).item

    assert (waiting["kind"], waiting["version"], waiting["tag"]) == ("deployed", 1, "default")
    assert [wait["key"] for wait in waiting["pending_waits"]] == ["approve"]

    answered = run_cli("executions", "input", waiting["exec_id"], "--value", "true").item
    assert (answered["answer"], answered["answered_by"] is None) == (True, False)

    done = ended(run_cli, waiting["exec_id"])
    assert (done["status"], done["result"]) == ("completed", "About agents")
    assert "drafting agents" in run_cli("executions", "logs", waiting["exec_id"]).item["logs"]


def test_a_deploy_tells_scripts_what_it_made(deployed: dict[str, Any], run_cli: Cli) -> None:
    again = run_cli("deploy", "flows.py:review").item

    assert (deployed["flow"], deployed["version"], deployed["created"]) == ("review", 1, True)
    assert (deployed["tags"], deployed["git"]) == (["default"], None)
    assert set(deployed["blobs"]) == {"total", "new", "bytes_total", "bytes_new"}
    assert (again["version"], again["created"], again["digest"]) == (1, False, deployed["digest"])


@pytest.mark.usefixtures("deployed")
def test_a_failed_invocation_exits_with_1_and_shows_the_users_traceback(run_cli: Cli) -> None:
    failed = run_cli.text("invoke", "review", "--input", '{"topic": "x", "impatient": true}', expect=1)

    assert failed.stdout == ""
    assert "ValueError: no time" in failed.stderr
    assert "kitaru_runner" not in failed.stderr


@pytest.mark.usefixtures("deployed")
def test_the_same_idempotency_key_gives_the_first_execution(run_cli: Cli) -> None:
    first = run_cli("invoke", "review", "--input", INPUT, "--idempotency-key", "k", "--detach").item
    again = run_cli("invoke", "review", "--input", INPUT, "--idempotency-key", "k", "--detach").item
    refused = run_cli("invoke", "review", "--input", '{"topic": "tea"}', "--idempotency-key", "k", expect=4)

    assert again["exec_id"] == first["exec_id"]
    assert refused.error["type"] == "KitaruConflictError"


@pytest.mark.usefixtures("deployed")
def test_a_time_out_exits_with_6_and_the_execution_goes_on(run_cli: Cli) -> None:
    left = run_cli("invoke", "review", "--input", INPUT, "--timeout", "0", expect=6).item

    assert left["status"] in ("pending", "running")
    assert ended(run_cli, left["exec_id"], status="waiting")["pending_waits"]


@pytest.mark.usefixtures("deployed")
def test_ctrl_c_leaves_an_invocation_running(run_cli: Cli) -> None:
    # Stopped by us, the runner cannot bring the execution to its wait before Ctrl-C comes.
    runner = run_cli("runner", "start").item["pid"]
    os.kill(runner, signal.SIGSTOP)
    try:
        process = subprocess.Popen(
            [run_cli.executable, "invoke", "review", "--input", INPUT, "-o", "json"],
            cwd=run_cli.folder,
            stdout=subprocess.PIPE,
            text=True,
        )
        until(lambda: len(run_cli("executions", "list").items) == 1)
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        os.kill(runner, signal.SIGCONT)

    assert process.returncode == 130
    assert ended(run_cli, json.loads(told)["item"]["exec_id"], status="waiting")["attempt"] == 1


@pytest.mark.usefixtures("deployed")
def test_a_runner_in_the_foreground_executes_until_ctrl_c(run_cli: Cli) -> None:
    (run_cli.folder / "kitaru.toml").write_text("[runner]\nautostart = false\n")
    pending = run_cli("invoke", "review", "--input", INPUT, "--detach").item
    assert run_cli("runner", "list").items == []

    with subprocess.Popen(
        [run_cli.executable, "runner", "-o", "json"], cwd=run_cli.folder, stdout=subprocess.PIPE, text=True
    ) as runner:
        ended(run_cli, pending["exec_id"], status="waiting")
        assert [found["pid"] for found in run_cli("runner", "list").items] == [runner.pid]
        runner.send_signal(signal.SIGINT)
        told, _ = runner.communicate(timeout=PATIENCE_SECONDS)

    assert runner.returncode == 0
    assert json.loads(told)["command"] == "runner"


def test_status_and_doctor_speak_of_this_home(kitaru: Kitaru, project: Path) -> None:
    home = str(project.parent / "home")

    assert kitaru("status", "-o", "json").item["home"] == home
    assert home in kitaru("status").out
    checks = kitaru("doctor", "-o", "json")
    assert (checks.code, {check["ok"] for check in checks.items}) == (0, {True})


def test_a_home_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()

    refused = subprocess.run(
        [sys.executable, "-m", "kitaru_cli.main", "flows"],
        env={**os.environ, "KITARU_HOME": str(file / "home")},
        capture_output=True,
        text=True,
    )

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith(f"kitaru: the home {file / 'home'} is not writable")
    assert "set KITARU_HOME" in refused.stderr


def ended(run_cli: Cli, exec_id: str, *, status: str = "completed") -> dict[str, Any]:
    until(lambda: run_cli("executions", "get", exec_id).item["status"] == status)
    return run_cli("executions", "get", exec_id).item


def until(condition: Any) -> None:
    """Return as soon as it holds; polled, because another process makes it true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)
