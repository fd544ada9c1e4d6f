"""`kitaru run` and everything about its executions, over a real registry; the flow runs in this process."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kitaru_registry.home import Home

if TYPE_CHECKING:
    from tests.cli.conftest import Kitaru

FLOWS = """
import os, sys, time
from pathlib import Path
from kitaru import checkpoint, flow, log, wait


@checkpoint
def draft(topic: str) -> str:
    print("drafting", topic)
    return f"About {topic}"


@flow
def write(topic: str, copies: int = 1) -> list[str]:
    log(stage="written")
    return [draft(topic)] * copies


@flow
def fail(topic: str) -> str:
    raise ValueError(f"nothing to say about {topic}")


@flow
def review(topic: str) -> str:
    text = draft(topic)
    return text if wait(name="approve", question="Publish?", schema=bool) else "Rejected"


@flow
def slow(marker: str) -> str:
    draft("first")
    Path(marker).touch()
    while not Path(marker + ".go").exists():
        time.sleep(0.01)
    return "done"


@flow
def stop(topic: str) -> bool:
    breakpoint()
    print("a terminal:", sys.stdout.isatty())
    return True
"""
PATIENCE_SECONDS = 60


@pytest.fixture(autouse=True)
def flows(project: Path) -> Path:
    file = project / "flows.py"
    file.write_text(FLOWS)
    return file


def in_a_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kitaru_cli", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )


@pytest.fixture
def waiting() -> dict[str, Any]:
    """An execution whose process has ended at its wait."""
    done = in_a_process("run", "flows.py:review", "--input", '{"topic": "agents"}', "-o", "json")
    assert done.returncode == 6, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["item"]
    return found


def test_run_prints_the_result(kitaru: Kitaru) -> None:
    done = kitaru("run", "flows.py:write", "--input", '{"topic": "agents"}')

    assert done.code == 0
    assert done.out.splitlines() == ["drafting agents", "[", '  "About agents"', "]"]
    assert "completed" in done.err


def test_run_keeps_stdout_for_json(kitaru: Kitaru) -> None:
    done = kitaru("run", "flows.py:write", "--input", '{"topic": "agents", "copies": 2}', "-o", "json")

    assert (done.item["kind"], done.item["flow"], done.item["status"]) == ("source", "write", "completed")
    assert (done.item["version"], done.item["tag"], done.item["result"]) == (None, None, ["About agents"] * 2)
    assert [(call["key"], call["status"], call["attempts"]) for call in done.item["checkpoints"]] == [
        ("draft", "completed", 1)
    ]
    assert done.err == "drafting agents\n"


def test_a_flow_that_raises_shows_its_traceback_and_exits_with_1(kitaru: Kitaru) -> None:
    done = kitaru("run", "flows.py:fail", "--input", '{"topic": "agents"}')

    assert (done.code, done.out) == (1, "")
    assert "ValueError: nothing to say about agents" in done.err
    assert "flows.py" in done.err
    assert "kitaru_cli" not in done.err


def test_what_a_decorator_refuses_is_shown_with_its_line_and_no_traceback(kitaru: Kitaru, project: Path) -> None:
    (project / "bad.py").write_text("from kitaru import checkpoint\n\n@checkpoint(retries=-1)\ndef draft(): ...\n")

    outcome = kitaru("run", "bad.py:write")

    assert (outcome.code, outcome.out) == (2, "")
    place = f"{project / 'bad.py'}:3"
    assert outcome.err.splitlines() == [
        f"kitaru: {place}: retries=-1 is not a number of them", "hint:   give 0 or more",
    ]  # fmt: skip


def test_a_failure_of_kitaru_s_own_ends_with_what_to_do(kitaru: Kitaru, project: Path) -> None:
    (project / "direct.py").write_text("from kitaru import flow\n@flow\ndef a(): ...\n@flow\ndef b(): a()\n")

    outcome = kitaru("run", "direct.py:b")

    assert outcome.code == 1
    assert f"failed at {project / 'direct.py'}:5\nhint:   write a.run(...)" in outcome.err


def test_a_failed_execution_is_an_answer_to_scripts(kitaru: Kitaru) -> None:
    done = kitaru("run", "flows.py:fail", "--input", '{"topic": "agents"}', "-o", "json")

    assert (done.code, done.err) == (1, "")
    assert done.item["status"] == "failed"
    assert (done.item["error"]["type"], done.item["error"]["origin"]) == ("ValueError", "user_code")


@pytest.mark.parametrize(
    ("line", "code", "kind", "says"),
    [
        (["flow.py:write"], 3, "KitaruNotFoundError", "flow.py"),
        (["flows.py:wirte"], 3, "KitaruNotFoundError", "write"),
        (["flows.py:draft"], 2, "KitaruUsageError", "draft"),
        (["flows.py"], 2, "KitaruUsageError", "flows.py"),
        (["flows.py:write"], 2, "KitaruUsageError", "topic"),
        (["flows.py:write", "--input", '{"topic": 1}'], 2, "KitaruUsageError", "topic"),
        (["flows.py:write", "--input", '{"topic": "a", "copeis": 2}'], 2, "KitaruUsageError", "copies"),
        (["flows.py:write", "--input", "{"], 2, "KitaruUsageError", "no JSON"),
    ],
)
def test_a_run_that_cannot_begin_is_one_clear_error(
    line: Sequence[str], code: int, kind: str, says: str, kitaru: Kitaru
) -> None:
    refused = kitaru("run", *line, "-o", "json")

    assert (refused.code, refused.error["type"]) == (code, kind)
    assert says in refused.error["message"] + (refused.error["hint"] or "")
    assert kitaru("executions", "list", "-o", "json").items == []


def test_executions_are_listed_newest_first_and_filtered(kitaru: Kitaru) -> None:
    for topic in ("agents", "tea"):
        kitaru("run", "flows.py:write", "--input", json.dumps({"topic": topic}))
    kitaru("run", "flows.py:fail", "--input", '{"topic": "agents"}')

    def flows_of(*options: str) -> list[tuple[str, str]]:
        found = kitaru("executions", "list", *options, "-o", "json").items
        return [(execution["flow"], execution["inputs"]["topic"]) for execution in found]

    assert flows_of() == [("fail", "agents"), ("write", "tea"), ("write", "agents")]
    assert flows_of("--flow", "write", "--limit", "1") == [("write", "tea")]
    assert flows_of("--status", "failed") == [("fail", "agents")]
    assert flows_of("--where", "topic=tea") == [("write", "tea")]
    assert flows_of("--since", "1h", "--version", "v1") == []
    assert flows_of("--since", "2030-01-01") == []


def test_an_execution_is_shown_by_the_end_of_its_id(kitaru: Kitaru) -> None:
    exec_id = kitaru("run", "flows.py:write", "--input", '{"topic": "agents"}', "-o", "json").item["exec_id"]

    shown = kitaru("executions", "get", exec_id[-8:])

    assert exec_id in shown.out
    assert "draft       completed      1" in shown.out
    assert '"stage": "written"' in shown.out


@pytest.mark.parametrize("command", ["get", "logs", "resume", "cancel", "input --value true"])
def test_an_unknown_execution_is_not_found(command: str, kitaru: Kitaru) -> None:
    name, *options = command.split()

    refused = kitaru("executions", name, "ffffffff", *options, "-o", "json")

    assert (refused.code, refused.error["type"]) == (3, "KitaruNotFoundError")
    assert "ffffffff" in refused.error["message"]


def test_a_run_without_a_terminal_ends_at_its_wait_and_says_how_to_answer(waiting: dict[str, Any]) -> None:
    assert waiting["status"] == "waiting"
    assert [(wait["key"], wait["question"], wait["schema"]) for wait in waiting["pending_waits"]] == [
        ("approve", "Publish?", {"type": "boolean"})
    ]


def test_a_wait_is_listed_and_shown(waiting: dict[str, Any], kitaru: Kitaru) -> None:
    (listed,) = kitaru("waits", "list", "-o", "json").items
    shown = kitaru("waits", "show", waiting["exec_id"][-8:])

    assert (listed["exec_id"], listed["flow"], listed["key"]) == (waiting["exec_id"], "review", "approve")
    assert f"kitaru waits answer {waiting['exec_id'][-8:]} approve --value true" in shown.out


@pytest.mark.parametrize("command", ["waits answer {} approve", "waits answer {}", "executions input {}"])
def test_an_answer_sets_the_execution_going_again(command: str, waiting: dict[str, Any], kitaru: Kitaru) -> None:
    exec_id = waiting["exec_id"]

    answered = in_a_process(*command.format(exec_id).split(), "--value", "false", "-o", "json")

    assert answered.returncode == 0, answered.stderr
    item = json.loads(answered.stdout)["item"]
    assert (item["key"], item["status"], item["answer"]) == ("approve", "answered", False)
    assert ended(kitaru, exec_id)["result"] == "Rejected"


@pytest.mark.parametrize("value", ['"yes"', "1", "null"])
def test_an_answer_that_does_not_fit_leaves_it_waiting(value: str, waiting: dict[str, Any], kitaru: Kitaru) -> None:
    refused = kitaru("waits", "answer", waiting["exec_id"], "--value", value, "-o", "json")

    assert (refused.code, refused.error["type"]) == (2, "KitaruWaitValidationError")
    assert kitaru("executions", "get", waiting["exec_id"], "-o", "json").item["status"] == "waiting"


def test_a_second_answer_is_a_conflict_that_shows_the_first(waiting: dict[str, Any], kitaru: Kitaru) -> None:
    in_a_process("waits", "answer", waiting["exec_id"], "approve", "--value", "true")

    refused = kitaru("waits", "answer", waiting["exec_id"], "approve", "--value", "false", "-o", "json")

    assert (refused.code, refused.error["type"]) == (4, "KitaruConflictError")
    assert "ada@analytical" in refused.error["message"]


def test_without_a_value_and_a_terminal_nothing_is_answered(waiting: dict[str, Any]) -> None:
    refused = in_a_process("waits", "answer", waiting["exec_id"])

    assert refused.returncode == 2
    assert "no --value, and no terminal" in refused.stderr


def test_a_cancelled_execution_stays_cancelled(waiting: dict[str, Any], kitaru: Kitaru) -> None:
    ended_now = kitaru("executions", "cancel", waiting["exec_id"], "--reason", "changed my mind", "-o", "json")

    assert ended_now.item["status"] == "cancelled"
    assert kitaru("waits", "list", "-o", "json").items == []
    assert kitaru("waits", "answer", waiting["exec_id"], "approve", "--value", "true", "-o", "json").code == 4


def test_run_asks_for_the_answer_on_a_terminal(home: Home) -> None:
    arguments = ["run", "flows.py:review", "--input", '{"topic": "agents"}']

    told, code = on_a_terminal(arguments, prompt="Publish? [y/n]:", typed="y\n")

    assert code == 0
    assert "About agents" in told


def test_a_breakpoint_stops_a_run_on_a_terminal(home: Home) -> None:
    told, code = on_a_terminal(
        ["run", "flows.py:stop", "--input", '{"topic": "agents"}'], prompt="(Pdb) ", typed="p topic.upper()\nc\n"
    )

    assert code == 0
    assert "'AGENTS'" in told
    assert "a terminal: True" in told


def test_ctrl_c_ends_a_run_which_is_then_resumed(tmp_path: Path, kitaru: Kitaru) -> None:
    marker = tmp_path / "marker"
    arguments = ["run", "flows.py:slow", "--input", json.dumps({"marker": str(marker)})]
    process = subprocess.Popen(
        [sys.executable, "-m", "kitaru_cli", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until(marker.exists)

    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=PATIENCE_SECONDS)

    (stopped,) = kitaru("executions", "list", "-o", "json").items
    assert process.returncode == 130
    assert f"kitaru executions resume {stopped['exec_id'][-8:]}" in told
    assert stopped["status"] == "pending"

    marker.with_name("marker.go").touch()
    resumed = in_a_process("executions", "resume", stopped["exec_id"], "-o", "json")

    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["item"]["result"] == "done"
    assert "drafting" not in resumed.stderr


def ended(kitaru: Kitaru, exec_id: str) -> dict[str, Any]:
    def is_over() -> bool:
        return kitaru("executions", "get", exec_id, "-o", "json").item["ended_at"] is not None

    until(is_over)
    return kitaru("executions", "get", exec_id, "-o", "json").item


def until(condition: Any) -> None:
    """Return as soon as it holds; polled, because another process makes it true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def on_a_terminal(arguments: Sequence[str], *, prompt: str, typed: str) -> tuple[str, int]:
    """What a command shows on a terminal where `typed` is typed once `prompt` is there, and its exit code."""
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "kitaru_cli", *arguments], stdin=terminal, stdout=terminal, stderr=terminal
    ) as process:
        os.close(terminal)
        shown = ""
        answered = False
        while chunk := read_terminal(controller):
            shown += chunk
            if prompt in shown and not answered:
                answered = True
                os.write(controller, typed.encode())
    os.close(controller)
    return shown, process.returncode


def read_terminal(controller: int) -> str:
    try:
        return os.read(controller, 4096).decode()
    except OSError:  # the other end is closed: Linux says EIO
        return ""
