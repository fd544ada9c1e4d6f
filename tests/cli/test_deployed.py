"""`kitaru deploy`, `invoke` and `runner`, with an environment, a runner and a child of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.conftest import Cli

from kitaru_registry.home import Home

if TYPE_CHECKING:
    from tests.cli.conftest import Kitaru
    from tests.conftest import Finished

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


@checkpoint
def shake() -> None:
    import os, subprocess
    if not os.path.exists("shaken"):
        open("shaken", "w").close()
        print("half a line", end="")
        os.kill(os.getpid(), 9)
    subprocess.run(["echo", "a subprocess"])


@flow
def shaky() -> str:
    print("begin")
    shake()
    print("steady", end="")
    return "done"
"""
INPUT = '{"topic": "agents"}'
PATIENCE_SECONDS = 60


class Place:
    """One home where the flow is deployed once, and the real command line on it."""

    def __init__(self, cli: Cli) -> None:
        self.cli = cli
        self.deployed = cli("deploy", "flows.py:review").item

    def __call__(self, *arguments: str, expect: int = 0, cwd: Path | None = None) -> Finished:
        return self.cli(*arguments, expect=expect, cwd=cwd)

    def settled(self, exec_id: str, *, status: str) -> dict[str, Any]:
        until(lambda: self("executions", "get", exec_id).item["status"] == status)
        return self("executions", "get", exec_id).item

    def start(self, *arguments: str, cwd: Path | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.cli.executable, *arguments, "-o", "json"],
            cwd=cwd or self.cli.folder,
            env={**os.environ, "KITARU_HOME": str(self.cli.home.root)},
            stdout=subprocess.PIPE,
            text=True,
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, warm_home: Home, kitaru_executable: Path) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("deployed")
    home, folder = Home(root / "home"), root / "work"
    for made in (home.root, folder):
        made.mkdir(mode=0o700)
    home.cache.symlink_to(warm_home.cache)
    home.tools.symlink_to(warm_home.tools)
    (folder / "flows.py").write_text(FLOWS)
    place = Place(Cli(kitaru_executable, home, folder))
    yield place
    stop_runner(place)


def stop_runner(place: Place) -> None:
    if place("runner", "list").items:
        place("runner", "stop")


def test_a_deployed_flow_is_invoked_answered_and_ends(place: Place) -> None:
    waiting = place("invoke", "review", "--input", INPUT, expect=6).item

    assert (waiting["kind"], waiting["version"], waiting["tag"]) == ("deployed", 1, "default")
    assert [wait["key"] for wait in waiting["pending_waits"]] == ["approve"]

    answered = place("executions", "input", waiting["exec_id"], "--value", "true").item
    assert (answered["answer"], answered["answered_by"] is None) == (True, False)

    done = place.settled(waiting["exec_id"], status="completed")
    assert (done["status"], done["result"]) == ("completed", "About agents")
    (printed, resumed) = place("executions", "logs", waiting["exec_id"]).items
    assert (printed["message"], printed["checkpoint"], printed["stream"]) == ("drafting agents", "draft", "stdout")
    assert (resumed["message"], resumed["source"], resumed["attempt"]) == ("attempt 2 begins", "runner", 2)


def test_a_deploy_tells_scripts_what_it_made(place: Place) -> None:
    deployed = place.deployed
    again = place("deploy", "flows.py:review").item

    assert (deployed["flow"], deployed["version"], deployed["created"]) == ("review", 1, True)
    assert (deployed["tags"], deployed["git"]) == (["default"], None)
    assert set(deployed["blobs"]) == {"total", "new", "bytes_total", "bytes_new"}
    assert (again["version"], again["created"], again["digest"]) == (1, False, deployed["digest"])


def test_a_failed_invocation_exits_with_1_and_shows_the_users_traceback(place: Place) -> None:
    failed = place.cli.text("invoke", "review", "--input", '{"topic": "x", "impatient": true}', expect=1)

    assert failed.stdout == ""
    assert "ValueError: no time" in failed.stderr
    assert "flows.py:16\n" in failed.stderr


def test_the_same_idempotency_key_gives_the_first_execution(place: Place) -> None:
    first = place("invoke", "review", "--input", INPUT, "--idempotency-key", "k", "--detach").item
    again = place("invoke", "review", "--input", INPUT, "--idempotency-key", "k", "--detach").item
    refused = place("invoke", "review", "--input", '{"topic": "tea"}', "--idempotency-key", "k", expect=4)

    assert again["exec_id"] == first["exec_id"]
    assert refused.error["type"] == "KitaruConflictError"


def test_who_follows_a_deployed_flow_sees_each_attempt_and_why_one_ended(place: Place) -> None:
    place("deploy", "flows.py:shaky")
    exec_id = place("invoke", "shaky", "--detach").item["exec_id"]

    followed = place("executions", "logs", exec_id, "--follow")

    *lines, end = (json.loads(line) for line in followed.stdout.splitlines())
    assert [(line["item"]["attempt"], line["item"]["source"], line["item"]["message"]) for line in lines] == [
        (1, "flow", "begin"),
        (1, "runner", "killed by SIGKILL in shake"),
        (2, "runner", "attempt 2 begins"),
        (2, "flow", "begin"),
        (2, "flow", "a subprocess"),
        (2, "flow", "steady"),
    ]
    assert (end["event"], end["item"]["result"]) == ("terminal", "done")


def test_a_time_out_exits_with_6_and_the_execution_goes_on(place: Place) -> None:
    left = place("invoke", "review", "--input", INPUT, "--timeout", "0", expect=6).item

    assert left["status"] in ("pending", "running")
    assert place.settled(left["exec_id"], status="waiting")["pending_waits"]


def test_ctrl_c_leaves_an_invocation_running(place: Place) -> None:
    # Stopped by us, the runner cannot bring the execution to its wait before Ctrl-C comes.
    runner = place("runner", "start").item["pid"]
    os.kill(runner, signal.SIGSTOP)
    try:
        with place.start("invoke", "review", "--input", '{"topic": "patience"}') as process:
            until(lambda: place("executions", "list", "--where", "topic=patience").items)
            process.send_signal(signal.SIGINT)
            told, _ = process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        os.kill(runner, signal.SIGCONT)

    assert process.returncode == 130
    assert place.settled(json.loads(told)["item"]["exec_id"], status="waiting")["attempt"] == 1


def test_a_runner_in_the_foreground_executes_until_ctrl_c(place: Place, tmp_path: Path) -> None:
    stop_runner(place)
    (tmp_path / "kitaru.toml").write_text("[runner]\nautostart = false\n")
    pending = place("invoke", "review", "--input", INPUT, "--detach", cwd=tmp_path).item
    assert (pending["status"], place("runner", "list").items) == ("pending", [])

    with place.start("runner", cwd=tmp_path) as runner:
        place.settled(pending["exec_id"], status="waiting")
        assert [found["pid"] for found in place("runner", "list").items] == [runner.pid]
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
        [sys.executable, "-m", "kitaru_cli", "flows"],
        env={**os.environ, "KITARU_HOME": str(file / "home")},
        capture_output=True,
        text=True,
    )

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith(f"kitaru: the home {file / 'home'} is not writable")
    assert "set KITARU_HOME" in refused.stderr


def until(condition: Any) -> None:
    """Return as soon as it holds; polled, because another process makes it true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)
