"""`executions retry|replay`, `diff` and the bulk forms, over a real registry; flows run in this process."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Kitaru

FLOWS = """
from pathlib import Path
from kitaru import checkpoint, flow, log, wait


@checkpoint
def draft(topic: str) -> str:
    log(llm_calls={"draft": {"tokens_input": 1200, "tokens_output": 340, "cost": 0.0123}})
    return f"About {topic}"


@checkpoint
def publish(text: str) -> str:
    if not Path("open").exists():
        raise ConnectionError("the shop is closed")
    return text.upper()


@flow
def write(topic: str) -> str:
    return publish(draft(topic))


@flow
def review(topic: str) -> str:
    return publish(draft(topic)) if wait(name="approve", question="Publish?", schema=bool) else "Rejected"
"""
PATIENCE_SECONDS = 60


@pytest.fixture(autouse=True)
def flows(project: Path) -> Path:
    file = project / "flows.py"
    file.write_text(FLOWS)
    return file


@pytest.fixture
def shop(project: Path) -> Path:
    """Where it is there, `publish` goes well."""
    gate = project / "open"
    gate.touch()
    return gate


@pytest.fixture
def failed(kitaru: Kitaru) -> Callable[[str], str]:
    """The id of an execution whose last checkpoint failed."""

    def run(topic: str = "tea") -> str:
        made = kitaru("run", "flows.py:write", "--input", f'{{"topic": "{topic}"}}', "-o", "json")
        assert made.code == 1
        return str(made.item["exec_id"])

    return run


@pytest.fixture
def written(kitaru: Kitaru, shop: Path) -> str:
    return str(kitaru("run", "flows.py:write", "--input", '{"topic": "tea"}', "-o", "json").item["exec_id"])


def test_retry_says_that_the_code_is_the_same_and_what_executes_again(
    kitaru: Kitaru, failed: Callable[[str], str], project: Path
) -> None:
    execution = failed("tea")
    (project / "open").touch()

    told = kitaru("executions", "retry", execution)

    assert (told.code, told.out) == (0, "ABOUT TEA\n")
    assert f"{execution[-8:]} goes on with the same code (source); executes again: publish\n" in told.err


def test_a_dry_run_of_a_retry_shows_what_executes_again_and_what_stays(
    kitaru: Kitaru, failed: Callable[[str], str]
) -> None:
    execution = failed("tea")

    told = kitaru("executions", "retry", execution, "--dry-run")
    same = kitaru("executions", "retry", execution, "--dry-run", "-o", "json").item

    assert told.code == 0
    assert "executes again: publish; nothing was made" in told.err
    assert {call["key"]: call["does"] for call in same["calls"]}["publish"] == "executes"
    assert kitaru("executions", "get", execution, "-o", "json").item["status"] == "failed"


def test_retry_of_a_completed_one_is_refused(kitaru: Kitaru, written: str) -> None:
    told = kitaru("executions", "retry", written, "-o", "json")

    assert told.code == 4
    assert told.error["message"] == f"execution {written} is completed: only a failed one can be retried"


def test_replay_waits_for_the_result_and_marks_what_was_reused(kitaru: Kitaru, written: str) -> None:
    told = kitaru("executions", "replay", written, "--from", "publish")

    assert (told.code, told.out) == (0, "ABOUT TEA\n")
    assert f"is a replay of {written[-8:]}\n" in told.err
    (made,) = kitaru("executions", "list", "--replay-of", written, "-o", "json").items
    shown = kitaru("executions", "get", made["exec_id"]).out
    assert f"replay of  {written}, from publish\n" in shown
    assert [line.split()[:2] for line in shown.splitlines() if line.startswith(("draft", "publish"))] == [
        ["draft", "reused"], ["publish", "completed"],
    ]  # fmt: skip


def test_a_dry_run_is_a_table_of_what_stays_and_what_it_may_cost(kitaru: Kitaru, written: str) -> None:
    told = kitaru("executions", "replay", written, "--from", "draft", "--dry-run")

    assert told.code == 0
    first, *_ = [line.split() for line in told.out.splitlines()[1:]]
    assert first[:3] == ["draft", "checkpoint", "executes"]
    assert "0 calls of 2 stay, 2 execute again; they took " in told.out
    assert "1,200 + 340 tokens, cost 0.0123" in told.out
    assert f"a replay of {written[-8:]} (source) on source begins at draft; nothing was made\n" in told.err


def test_run_replays_in_this_process_with_edits(kitaru: Kitaru, written: str, flows: Path) -> None:
    flows.write_text(FLOWS.replace("text.upper()", 'f"{text}!"'))

    told = kitaru("run", "flows.py:write", "--replay", written, "--from", "publish")

    assert (told.code, told.out) == (0, "About tea!\n")


def test_overrides_that_are_no_object_are_refused(kitaru: Kitaru, written: str) -> None:
    told = kitaru("executions", "replay", written, "--overrides", "[1]", "-o", "json")

    assert (told.code, told.error["message"]) == (2, "--overrides is a list; it takes an object of outcomes")


def test_from_without_a_replay_is_refused(kitaru: Kitaru) -> None:
    told = kitaru("run", "flows.py:write", "--from", "draft", "-o", "json")

    assert told.code == 2
    assert "belong to a replay" in told.error["message"]


def test_an_override_for_a_checkpoint_that_is_not_there_names_those_that_are(kitaru: Kitaru, written: str) -> None:
    told = kitaru("executions", "replay", written, "--overrides", '{"checkpoint.draf": 1}', "-o", "json")

    assert told.code == 3
    assert told.error["message"] == f"execution {written} has no checkpoint draf; it has: draft, publish"
    assert told.error["hint"] == "did you mean draft?"


# Differences


def test_a_diff_is_read_at_80_columns(kitaru: Kitaru, written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    long = "wine " * 40
    other = kitaru("run", "flows.py:write", "--input", f'{{"topic": "{long}"}}', "-o", "json").item["exec_id"]
    monkeypatch.setenv("COLUMNS", "80")

    told = kitaru("diff", written, other)

    assert told.code == 0
    lines = [line.rstrip() for line in told.out.splitlines()]
    assert "draft" in lines
    assert '- "About tea"' in lines
    assert lines[lines.index("draft") + 2].startswith('+ "About wine wine')
    assert "0 calls of 2 are the same" in lines
    assert max(map(len, lines)) <= 100  # tables fold at 80; a line with a value says how much more there is


def test_equal_executions_say_so(kitaru: Kitaru, written: str) -> None:
    other = kitaru("run", "flows.py:write", "--input", '{"topic": "tea"}', "-o", "json").item["exec_id"]

    told = kitaru("diff", written, other)

    assert "2 calls of 2 are the same" in told.out
    assert "the results are the same" in told.out
    assert [it["change"] for it in kitaru("diff", written, other, "-o", "json").item["calls"]] == ["same", "same"]


# Many


def test_the_bulk_form_shows_first_and_does_nothing(kitaru: Kitaru, failed: Callable[[str], str]) -> None:
    executions = [failed("tea"), failed("wine")]

    would = kitaru("executions", "retry", "--flow", "write", "--dry-run")
    some = kitaru("executions", "retry", "--where", "topic=wine", "--dry-run", "-o", "json")

    assert would.code == 0
    assert all(execution[-8:] in would.out for execution in executions)
    assert "would retry 2 executions" in would.err
    assert [it["exec_id"] for it in some.items] == executions[1:]
    assert {it["status"] for it in kitaru("executions", "list", "-o", "json").items} == {"failed"}


def test_without_a_terminal_it_wants_a_yes(kitaru: Kitaru, failed: Callable[[str], str]) -> None:
    failed("tea")

    told = kitaru("executions", "retry", "--flow", "write", "-o", "json")

    assert (told.code, told.error["message"]) == (2, "this would retry 1 execution")
    assert told.error["hint"] == "look at them first: --dry-run; then do it: --yes"


def test_what_came_of_each_is_told_and_one_refusal_is_exit_code_1(
    kitaru: Kitaru, failed: Callable[[str], str], project: Path
) -> None:
    first = failed("tea")
    (project / "open").touch()
    kitaru("run", "flows.py:write", "--input", '{"topic": "tea"}')
    (project / "open").unlink()

    done = kitaru("executions", "replay", "--flow", "write", "--from", "failed", "--yes", "-o", "json")
    told = kitaru("executions", "replay", "--flow", "write", "--from", "nothing", "--yes", "-o", "json")

    assert (done.code, [(it["exec_id"], it["ok"]) for it in done.items]) == (0, [(first, True)])
    assert told.code == 1
    assert [it["ok"] for it in told.items] == [False] * len(told.items)
    assert told.items[0]["exec_id"] == first
    assert "has no call nothing; it has: draft, publish" in told.items[0]["message"]


def test_open_ones_are_cancelled_all_at_once(kitaru: Kitaru, project: Path) -> None:
    process = [
        subprocess.run(
            [sys.executable, "-m", "kitaru_cli", "run", "flows.py:review", "--input", f'{{"topic": "{topic}"}}'],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_SECONDS,
        )
        for topic in ("tea", "wine")
    ]  # fmt: skip
    assert [done.returncode for done in process] == [6, 6]

    done = kitaru("executions", "cancel", "--status", "waiting", "--reason", "closing", "--yes", "-o", "json")

    assert (done.code, [it["status"] for it in done.items]) == (0, ["cancelled", "cancelled"])
    assert kitaru("executions", "cancel", "--flow", "review", "--yes", "-o", "json").items == []


def test_one_execution_and_a_query_are_not_both_taken(kitaru: Kitaru) -> None:
    both = kitaru("executions", "cancel", "3f2a", "--flow", "write", "-o", "json")
    neither = kitaru("executions", "cancel", "-o", "json")
    odd = kitaru("executions", "retry", "--status", "completed", "-o", "json")

    assert (both.code, both.error["message"]) == (2, "3f2a is one execution, and --flow finds many")
    assert (neither.code, neither.error["message"]) == (2, "cancel which execution?")
    assert (odd.code, odd.error["message"]) == (2, "what is completed cannot be the object of a retry")


@pytest.mark.parametrize(("typed", "code", "status"), [(b"n\n", 130, "waiting"), (b"y\n", 0, "cancelled")])
def test_on_a_terminal_it_asks(kitaru: Kitaru, project: Path, typed: bytes, code: int, status: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "kitaru_cli", "run", "flows.py:review", "--input", '{"topic": "tea"}'],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_SECONDS,
    )  # fmt: skip
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "kitaru_cli", "executions", "cancel", "--flow", "review"]
    process = subprocess.Popen(command, stdin=follower, stderr=follower, stdout=subprocess.PIPE)
    os.close(follower)
    said, deadline = b"", time.monotonic() + PATIENCE_SECONDS
    while b"cancel 1 execution?" not in said:
        assert time.monotonic() < deadline, said
        said += os.read(leader, 4096)
    os.write(leader, typed)

    assert process.wait(PATIENCE_SECONDS) == code
    process.communicate()
    os.close(leader)
    assert [it["status"] for it in kitaru("executions", "list", "-o", "json").items] == [status]


def test_long_values_are_shown_where_they_differ(kitaru: Kitaru, written: str) -> None:
    made = [
        kitaru("run", "flows.py:write", "--input", f'{{"topic": "{"tea " * 50}{end}"}}', "-o", "json").item["exec_id"]
        for end in ("with milk", "with sugar")
    ]

    lines = kitaru("diff", *made).out.splitlines()

    at = lines.index("draft")
    assert [line[:6] for line in lines[at + 1 : at + 3]] == ["- ... ", "+ ... "]
    assert 'with milk" (' in lines[at + 1]
    assert 'with sugar" (' in lines[at + 2]
    assert any(line.startswith("topic") and "with milk" in line and "with sugar" in line for line in lines)


def test_an_input_that_was_not_given_reads_as_none(kitaru: Kitaru, project: Path) -> None:
    (project / "tea.py").write_text("from kitaru import flow\n@flow\ndef brew(cups: int = 3):\n    return cups\n")
    made = [
        kitaru("run", "tea.py:brew", "--input", given, "-o", "json").item["exec_id"] for given in ("{}", '{"cups": 4}')
    ]

    assert "cups  none -> 4" in kitaru("diff", *made).out


def test_text_that_is_no_unicode_can_be_compared_and_read(kitaru: Kitaru, project: Path) -> None:
    (project / "odd.py").write_text(
        "from kitaru import checkpoint, flow\n@checkpoint\ndef cut(n):\n    return 'a\\ud800' * n\n"
        "@flow\ndef odd(n: int):\n    return cut(n)\n"
    )
    made = [kitaru("run", "odd.py:odd", "--input", f'{{"n": {n}}}', "-o", "json").item["exec_id"] for n in (1, 2)]

    told = kitaru("diff", *made, "-o", "json")

    assert (told.code, told.item["result"][0]["value"]) == (0, "a\ud800")
    assert kitaru("diff", *made).code == 0
    assert kitaru("executions", "get", made[0], "-o", "json").item["result"] == "a\ud800"


def test_a_dry_run_of_a_retry_refuses_what_the_retry_would(kitaru: Kitaru, written: str) -> None:
    told = kitaru("executions", "retry", written, "--dry-run", "-o", "json")

    assert (told.code, told.error["type"]) == (4, "KitaruStateError")
    assert told.error["message"] == f"execution {written} is completed: only a failed one can be retried"


def test_a_replay_of_many_is_refused_at_once_where_nothing_says_where_it_begins(kitaru: Kitaru, written: str) -> None:
    told = kitaru("executions", "replay", "--flow", "write", "--yes", "-o", "json")

    assert (told.code, told.error["message"]) == (2, "from which call are they to execute again?")


def test_many_are_not_waited_for(kitaru: Kitaru, written: str) -> None:
    for action in (("retry",), ("replay", "--from", "draft")):
        told = kitaru("executions", *action, "--flow", "write", "--timeout", "5", "--yes", "-o", "json")

        assert (told.code, told.error["message"]) == (2, "--timeout is for one execution: many are not waited for")


def test_one_idempotency_key_gives_each_of_many_one_replay(kitaru: Kitaru, written: str) -> None:
    kitaru("run", "flows.py:write", "--input", '{"topic": "wine"}')
    command = ("executions", "replay", "--flow", "write", "--where", "topic=wine", "--from", "publish", "--yes")

    first, again = (kitaru(*command, "--idempotency-key", "nightly", "-o", "json") for _ in range(2))

    assert [it["ok"] for it in (*first.items, *again.items)][:2] == [True, True]
    assert again.items[0]["new_exec_id"] == first.items[0]["new_exec_id"]


def test_where_nothing_fits_that_is_said(kitaru: Kitaru, written: str) -> None:
    told = kitaru("executions", "retry", "--flow", "write", "--yes")

    assert (told.code, told.out, told.err) == (0, "", "no execution to retry is found\n")


def test_a_guard_s_refusal_says_how_to_give_its_outcome(kitaru: Kitaru, project: Path) -> None:
    (project / "pay.py").write_text(
        "from kitaru import checkpoint, flow\n"
        "@checkpoint\ndef price():\n    raise ValueError('none')\n"
        "@checkpoint(replay='never')\ndef charge(cents):\n    return cents\n"
        "@flow\ndef pay():\n    return charge(price())\n"
    )
    failed = kitaru("run", "pay.py:pay", "-o", "json").item["exec_id"]
    override = ("--overrides", '{"checkpoint.price": 5}')

    told = kitaru("run", "pay.py:pay", "--replay", failed, *override)

    (made,) = kitaru("executions", "list", "--replay-of", failed, "-o", "json").items
    hint = (
        f"hint:   give one: kitaru executions replay {made['exec_id']} --overrides '{{\"checkpoint.charge\": ...}}'\n"
    )
    assert hint in told.err
    assert hint in kitaru("executions", "get", made["exec_id"]).out


def test_new_inputs_of_a_replay_are_checked(kitaru: Kitaru, written: str) -> None:
    for given, said in (('{"topic": 7}', "topic: expected string, got integer 7"), ('{"tone": 1}', "tone is unknown")):
        message = f"these inputs do not fit write: {said}"
        here = kitaru("run", "flows.py:write", "--replay", written, "--from", "draft", "--input", given, "-o", "json")
        assert (here.code, here.error["message"]) == (2, message)

        apart = kitaru("executions", "replay", written, "--from", "draft", "--input", given, "-o", "json")
        assert (apart.code, apart.item["error"]["message"]) == (1, message)


def test_of_values_that_were_not_kept_the_digests_are_compared(kitaru: Kitaru, project: Path) -> None:
    (project / "keep.py").write_text(
        "from kitaru import checkpoint, flow\n@checkpoint(record='digest')\ndef secret(n):\n    return 's' * n\n"
        "@flow\ndef keep(n: int):\n    secret(n)\n"
    )
    made = [kitaru("run", "keep.py:keep", "--input", f'{{"n": {n}}}', "-o", "json").item["exec_id"] for n in (1, 2)]

    lines = kitaru("diff", *made).out.splitlines()

    recorded = [kitaru("executions", "get", each, "-o", "json").item["checkpoints"][0] for each in made]
    assert lines[lines.index("secret") + 1 :][:2] == [
        f"{sign} not kept, {call['output_digest'][:19]}" for sign, call in zip("-+", recorded, strict=True)
    ]
