"""`kitaru executions logs`: what was printed, as it was printed; and what is printed now."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kitaru_registry.home import Home
from kitaru_registry.journal.log_lines import log_file, remark

if TYPE_CHECKING:
    from tests.cli.conftest import Kitaru

FLOWS = """
import logging, sys, time
from pathlib import Path
from kitaru import checkpoint, flow, wait

logging.basicConfig(format="%(levelname)s %(message)s")

@checkpoint
def draft(topic: str) -> str:
    print("drafting", topic)
    logging.getLogger("author").warning("hard to write")
    return topic

@flow
def write(topic: str = "tea", fail: bool = False) -> str:
    print("\\x1b[1mbegin\\x1b[0m")
    draft(topic)
    print("end", file=sys.stderr)
    if fail:
        raise ValueError("failed")
    return "written"

@flow
def review() -> bool:
    print("before")
    answer = wait(name="approve", schema=bool)
    print("after")
    return answer
"""
LINES = ["begin", "drafting tea", "WARNING hard to write", "end"]
PATIENCE_SECONDS = 60


@pytest.fixture(autouse=True)
def flows(project: Path) -> None:
    (project / "flows.py").write_text(FLOWS)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "kitaru_cli", *arguments]


def run(flow: str, **inputs: object) -> dict[str, Any]:
    line = command("run", f"flows.py:{flow}", "--input", json.dumps(inputs), "-o", "json")
    done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    found: dict[str, Any] = json.loads(done.stdout)["item"]
    return found


@pytest.fixture
def written() -> str:
    return str(run("write")["exec_id"])


def test_the_lines_are_printed_as_they_were(written: str, kitaru: Kitaru) -> None:
    assert kitaru("executions", "logs", written).out.splitlines() == LINES
    assert kitaru("executions", "logs", written, "--checkpoint", "draft").out.splitlines() == LINES[1:3]
    assert kitaru("executions", "logs", written, "--limit", "1").out.splitlines() == LINES[-1:]
    assert kitaru("executions", "logs", written, "--source", "runner") == kitaru(
        "executions", "logs", written, "--attempt", "2"
    )


def test_scripts_get_every_line_with_its_place(written: str, kitaru: Kitaru) -> None:
    items = kitaru("executions", "logs", written[-8:], "-o", "json").items

    assert [item["stream"] for item in items] == ["stdout", "stdout", "stderr", "stderr"]
    assert [item["checkpoint"] for item in items] == [None, "draft", "draft", None]
    assert (items[2]["level"], items[2]["logger"], items[2]["filename"]) == ("WARNING", "author", "flows.py")
    assert kitaru("executions", "logs", written, "--offset", str(items[2]["offset"])).out == "end\n"


def test_verbose_says_when_and_where(written: str, kitaru: Kitaru) -> None:
    shown = kitaru("executions", "logs", written, "-v").out.splitlines()
    more = kitaru("executions", "logs", written, "-vv").out.splitlines()

    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} 1 WARNING draft  WARNING hard to write", shown[2])
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} 1 stdout  flow  begin", shown[0])
    assert re.search(r"draft author flows\.py:\d+  WARNING hard to write", more[2])


def test_grouped_by_checkpoint(written: str, kitaru: Kitaru) -> None:
    shown = kitaru("executions", "logs", written, "--grouped").out

    assert shown == "flow\n  begin\n  end\n\ndraft\n  drafting tea\n  WARNING hard to write\n"


def test_a_remark_of_the_runners_is_told_apart(written: str, home: Home, kitaru: Kitaru) -> None:
    remark(log_file(home, written), "attempt 2 begins", attempt=2)

    assert kitaru("executions", "logs", written).out.splitlines() == [*LINES, "kitaru: attempt 2 begins"]
    assert kitaru("executions", "logs", written, "--attempt", "2").out == "kitaru: attempt 2 begins\n"


@pytest.mark.parametrize(("fail", "code"), [(False, 0), (True, 1)])
def test_following_what_has_ended_shows_all_and_how_it_ended(fail: bool, code: int, kitaru: Kitaru) -> None:
    exec_id = run("write", fail=fail)["exec_id"]

    followed = kitaru("executions", "logs", exec_id, "-f")
    events = kitaru("executions", "logs", exec_id, "-f", "--limit", "1", "-o", "json")

    assert (followed.code, followed.out.splitlines()) == (code, LINES)
    assert ("failed" if fail else "completed") in followed.err
    told = [json.loads(line) for line in events.out.splitlines()]
    assert [event["event"] for event in told] == ["log", "terminal"]
    assert (events.code, events.err, told[1]["item"]["exec_id"]) == (code, "", exec_id)


@pytest.mark.parametrize(
    ("options", "code", "kind"),
    [
        (["--source", "steps"], 2, "KitaruUsageError"),
        (["--limit", "0"], 2, "KitaruUsageError"),
        (["--offset=-1"], 2, "KitaruUsageError"),
        (["--attempt", "0"], 2, "KitaruUsageError"),
        (["--follow", "--offset=-1"], 2, "KitaruUsageError"),
        (["--follow", "--grouped"], 2, "KitaruUsageError"),
        (["--interval", "3"], 2, "KitaruUsageError"),
        (["--checkpoint", "darft"], 3, "KitaruNotFoundError"),
    ],
)
def test_what_cannot_be_shown_is_one_clear_error(options: list[str], code: int, kind: str, kitaru: Kitaru) -> None:
    written = kitaru("run", "flows.py:write", "-o", "json").item["exec_id"]

    refused = kitaru("executions", "logs", written, *options, "-o", "json")

    assert (refused.code, refused.error["type"]) == (code, kind)


@pytest.fixture
def follower() -> Iterator[subprocess.Popen[str]]:
    """`logs -f -o json` of an execution that stands at its wait, in another process."""
    exec_id = run("review")["exec_id"]
    line = command("executions", "logs", exec_id, "--follow", "-o", "json")
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def next_event(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    event: dict[str, Any] = json.loads(process.stdout.readline())
    return event


def test_who_follows_hears_of_the_wait_and_of_what_the_next_attempt_prints(
    follower: subprocess.Popen[str], kitaru: Kitaru
) -> None:
    before, waiting = next_event(follower), next_event(follower)
    assert (before["event"], before["item"]["message"]) == ("log", "before")
    assert (waiting["event"], waiting["item"]["pending_waits"][0]["key"]) == ("waiting", "approve")

    kitaru("executions", "input", waiting["item"]["exec_id"], "--value", "true")
    told, _ = follower.communicate(timeout=PATIENCE_SECONDS)

    *lines, end = (json.loads(line) for line in told.splitlines())
    assert [line["item"]["message"] for line in lines] == ["attempt 2 begins", "before", "after"]
    assert (end["event"], end["item"]["result"], follower.returncode) == ("terminal", True, 0)


def test_ctrl_c_ends_the_following_alone(follower: subprocess.Popen[str], kitaru: Kitaru) -> None:
    before, waiting = next_event(follower), next_event(follower)

    follower.send_signal(signal.SIGINT)
    told, errors = follower.communicate(timeout=PATIENCE_SECONDS)

    exec_id = waiting["item"]["exec_id"]
    assert json.loads(told) == {
        "command": "executions.logs",
        "event": "interrupted",
        "item": {"exec_id": exec_id, "offset": before["item"]["offset"]},
    }
    assert (follower.returncode, errors) == (130, "")
    assert kitaru("executions", "get", exec_id, "-o", "json").item["status"] == "waiting"


@pytest.mark.parametrize("options", [[], ["--follow"]])
def test_a_reader_that_has_enough_ends_it_quietly(options: list[str], written: str, home: Home) -> None:
    with log_file(home, written).open("a") as log:
        log.write("more than a pipe holds\n" * 10_000)
    line = command("executions", "logs", written, *options)
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        os.read(process.stdout.fileno(), 1)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
