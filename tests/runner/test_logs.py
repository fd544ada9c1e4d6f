"""What a flow prints is in its execution's log: whole lines, with the checkpoint that printed them."""

from __future__ import annotations

import _thread
import asyncio
import io
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from attempts import TestExecution

from kitaru import checkpoint
from kitaru_registry.executions.logs import read_log
from kitaru_registry.journal.log_lines import log_file
from kitaru_registry.models import LogEntry
from kitaru_runner.engine.body import output as logs


@contextmanager
def taken(execution: TestExecution) -> Iterator[Path]:
    """As `.run()` does it around its attempt."""
    path = log_file(execution.database.home, execution.exec_id)
    logs.begin(path, execution.exec_id, execution.record.attempt + 1)
    try:
        yield path
    finally:
        logs.end(execution.exec_id)


def printed(execution: TestExecution, body: Callable[..., Any]) -> list[LogEntry]:
    with taken(execution) as path:
        execution.attempt(body)
    return read_log(path)


def told(entries: list[LogEntry]) -> list[tuple[str | None, str]]:
    return [(entry.checkpoint, entry.message) for entry in entries]


@checkpoint
def say(*words: object, end: str = "\n") -> None:
    print(*words, end=end)


def test_a_line_says_who_printed_it_when_and_in_which_attempt(execution: TestExecution) -> None:
    def body() -> None:
        print("in the body")
        say("in a checkpoint")
        print("aside", file=sys.stderr)

    entries = printed(execution, body)

    assert told(entries) == [(None, "in the body"), ("say", "in a checkpoint"), (None, "aside")]
    assert [entry.stream for entry in entries] == ["stdout", "stdout", "stderr"]
    assert {(entry.source, entry.level, entry.attempt) for entry in entries} == {("flow", None, 1)}
    created = execution.record.created_at
    assert all(entry.timestamp is not None and entry.timestamp >= created for entry in entries)


def test_the_terminal_shows_what_it_would_without_a_log(
    execution: TestExecution, capfd: pytest.CaptureFixture[str]
) -> None:
    def body() -> None:
        print("to", "stdout", end="; ")
        print("to stderr", file=sys.stderr)
        say("no newline", end="")

    printed(execution, body)

    assert capfd.readouterr() == ("to stdout; no newline", "to stderr\n")


def test_code_outside_of_the_flow_is_not_taken(execution: TestExecution) -> None:
    def body() -> None:
        done = threading.Event()

        def say_it() -> None:
            print("a thread that knows of no flow")
            done.set()

        _thread.start_new_thread(say_it, ())
        done.wait()
        print("the flow")

    with taken(execution) as path:
        print("before")
        execution.attempt(body)
        print("after")

    assert told(read_log(path)) == [(None, "the flow")]


def test_what_a_thread_of_the_flow_prints_is_the_flow_s(execution: TestExecution) -> None:
    def body() -> None:
        thread = threading.Thread(target=print, args=("its thread",))
        thread.start()
        thread.join()

    with taken(execution) as path:
        execution.attempt(body)

    assert told(read_log(path)) == [(None, "its thread")]


def test_halves_of_lines_from_parallel_checkpoints_stay_apart(execution: TestExecution) -> None:
    everybody = threading.Barrier(5)

    @checkpoint
    def count(number: int) -> None:
        for part in "abc":
            everybody.wait(10)
            print(f"{part}{number}", end=" ", flush=True)
        everybody.wait(10)
        print()

    entries = printed(execution, lambda: [future.result() for future in count.map(range(5))])

    assert sorted(told(entries)) == [(f"map[{n}]/count", f"a{n} b{n} c{n} ") for n in range(5)]


def test_halves_of_lines_from_asyncio_tasks_stay_apart(execution: TestExecution) -> None:
    async def fetch(page: int) -> None:
        for part in "ab":
            print(part, page, end=" ")
            await asyncio.sleep(0)
        print("done")

    async def body() -> None:
        await asyncio.gather(*(fetch(page) for page in range(3)))

    assert told(printed(execution, body)) == [(None, f"a {page} b {page} done") for page in range(3)]


def test_tasks_of_a_checkpoints_own_loop_stay_apart_too(execution: TestExecution) -> None:
    async def fetch(page: int) -> None:
        print("fetching", end=" ")
        await asyncio.sleep(0)
        print(page)

    @checkpoint
    def fetch_all() -> None:
        async def gathered() -> None:
            await asyncio.gather(fetch(1), fetch(2))

        asyncio.run(gathered())

    assert told(printed(execution, fetch_all)) == [("fetch_all", "fetching 1"), ("fetch_all", "fetching 2")]


def test_a_line_without_newline_is_kept_before_the_end_is_recorded(execution: TestExecution) -> None:
    def body() -> None:
        say("half of the checkpoint's", end="")
        print("half of the body's", end="")

    assert told(printed(execution, body)) == [("say", "half of the checkpoint's"), (None, "half of the body's")]


def test_a_failing_flow_keeps_its_half_line_too(execution: TestExecution) -> None:
    def body() -> None:
        print("about to fail", end="")
        raise ValueError("failed")

    assert told(printed(execution, body)) == [(None, "about to fail")]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("one\ntwo\n\nfour\n", ["one", "two", "", "four"]),
        ("windows\r\nunix\n", ["windows", "unix"]),
        (" 10%\r 60%\r100%\ndone\n", ["100%", "done"]),
        ("\ud800 \x00 \u2028 snow☃\n", ["\ud800 \x00 \u2028 snow☃"]),
        ("\x1e{}\n", ["\x1e{}"]),
    ],
)
def test_what_is_printed_is_what_is_read(text: str, lines: list[str], execution: TestExecution) -> None:
    def body() -> None:
        with redirect_unencoded():
            sys.stdout.write(text)

    assert [entry.message for entry in printed(execution, body)] == lines


@contextmanager
def redirect_unencoded() -> Iterator[None]:
    """A stdout that takes lone surrogates."""
    with redirect_stdout(io.StringIO()):
        logs.tap_streams(passes_on=True)
        yield


def test_a_progress_bar_leaves_its_last_state(execution: TestExecution) -> None:
    def body() -> None:
        for percent in range(0, 101, 10):
            sys.stderr.write(f"\r{percent}%")
        sys.stderr.write("\n")

    assert [entry.message for entry in printed(execution, body)] == ["100%"]


def test_a_line_that_grows_without_end_is_cut(execution: TestExecution) -> None:
    length = logs.UNFINISHED_CHARACTERS + 1

    def body() -> None:
        print("x" * length)
        print("y" * length, end="")
        print("tail")

    entries = printed(execution, body)

    assert [(entry.message[0], len(entry.message)) for entry in entries] == [("x", length), ("y", length), ("t", 4)]


class TestLogging:
    def log_through(self, stream: Any, execution: TestExecution, **setup: Any) -> list[LogEntry]:
        """Entries of a body that logs; the handler was made before the execution, as `basicConfig` at import does."""
        logger = logging.Logger("mine")
        handler = logging.StreamHandler(stream)
        handler.setFormatter(logging.Formatter(setup.pop("format", None)))
        logger.addHandler(handler)

        def body() -> None:
            print("half", end="", file=stream)
            logger.warning("careful: %s\nsecond line", 1)

        return printed(execution, body)

    def test_a_record_is_one_entry_with_its_level_and_place(self, execution: TestExecution) -> None:
        half, entry = self.log_through(sys.stderr, execution)

        assert (half.message, half.level) == ("half", None)
        assert (entry.message, entry.level, entry.logger) == ("careful: 1\nsecond line", "WARNING", "mine")
        assert (entry.module, entry.filename, entry.stream) == ("test_logs", "test_logs.py", "stderr")
        assert entry.lineno

    def test_the_message_is_what_the_users_format_made_of_it(self, execution: TestExecution) -> None:
        (_, entry) = self.log_through(sys.stdout, execution, format="[%(levelname)s] %(message)s")

        assert entry.message == "[WARNING] careful: 1\nsecond line"

    def test_a_handler_that_writes_elsewhere_is_not_taken(self, execution: TestExecution) -> None:
        assert self.log_through(io.StringIO(), execution) == []

    def test_the_handler_of_last_resort_is_taken(self, execution: TestExecution) -> None:
        logger = logging.Logger("nobody configured")

        (entry,) = printed(execution, lambda: logger.error("out of tea"))

        assert (entry.message, entry.level) == ("out of tea", "ERROR")


def test_a_replay_prints_the_body_again_and_no_recorded_checkpoint(execution: TestExecution) -> None:
    def body() -> None:
        print("begin")
        say("once")
        say("cut short")

    with taken(execution):
        execution.attempt(body, writes=1)
    entries = printed(execution, body)

    assert [(entry.attempt, entry.source, entry.message) for entry in entries] == [
        (1, "flow", "begin"),
        (1, "flow", "once"),
        (1, "flow", "cut short"),
        (2, "runner", "attempt 2 begins"),
        (2, "flow", "begin"),
        (2, "flow", "cut short"),
    ]


class TestStreams:
    def test_they_stay_the_objects_that_they_were(self, execution: TestExecution) -> None:
        before = (sys.stdout, sys.stderr)

        with taken(execution):
            assert (sys.stdout, sys.stderr) == before

        assert "write" not in vars(sys.stdout)
        assert "write" not in vars(sys.stderr)

    def test_they_are_left_to_whoever_took_them_since(self, execution: TestExecution) -> None:
        kept: list[str] = []

        def keep(text: str) -> int:
            kept.append(text)
            return len(text)

        with taken(execution):
            sys.stdout.write = keep  # type: ignore[method-assign]  # as a library that watches output does
        print("kept", end="")
        del vars(sys.stdout)["write"]

        assert "".join(kept) == "kept"

    def test_a_write_that_fails_fails_as_before(self, execution: TestExecution) -> None:
        def body() -> None:
            with pytest.raises(TypeError, match="must be str"):
                sys.stdout.write(b"bytes")  # type: ignore[arg-type]
            print("fine")

        assert told(printed(execution, body)) == [(None, "fine")]

    def test_a_stream_that_stands_before_another_is_taken_once(self, execution: TestExecution) -> None:
        class Before(io.TextIOBase):
            def __init__(self, behind: Any) -> None:
                self.behind = behind

            def write(self, text: str) -> int:
                return int(self.behind.write(text))

        with taken(execution) as path, redirect_stdout(Before(sys.stdout)):  # type: ignore[type-var]
            logs.tap_streams(passes_on=True)
            execution.attempt(lambda: print("once"))

        assert told(read_log(path)) == [(None, "once")]

    def test_a_stream_that_cannot_be_tapped_still_prints(
        self, execution: TestExecution, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Fixed:
            __slots__ = ("text",)

            def write(self, text: str) -> None:
                self.text = text

        fixed = Fixed()
        monkeypatch.setattr(sys, "stdout", fixed)
        monkeypatch.setattr(sys, "stderr", None)

        assert printed(execution, lambda: sys.stdout.write("shown")) == []
        assert fixed.text == "shown"

    def test_a_log_that_cannot_be_written_costs_the_flow_nothing(
        self, execution: TestExecution, capfd: pytest.CaptureFixture[str]
    ) -> None:
        path = log_file(execution.database.home, execution.exec_id)
        path.mkdir(parents=True)

        with taken(execution):
            execution.attempt(lambda: print("shown"))

        assert execution.status == "completed"
        assert capfd.readouterr().out == "shown\n"


def test_a_forked_process_does_not_repeat_its_parents_half_line(execution: TestExecution) -> None:
    def body() -> None:
        print("the parent's", end=" ")
        process = os.fork()
        if process == 0:
            print("the child's")
            os._exit(0)
        os.waitpid(process, 0)
        print("line")

    assert told(printed(execution, body)) == [(None, "the child's"), (None, "the parent's line")]


def test_threads_and_processes_never_tear_each_others_lines(execution: TestExecution) -> None:
    lines = 200

    def shout() -> None:
        for number in range(lines):
            print(os.getpid(), threading.get_ident(), number, "x" * 500)

    @checkpoint
    def shouting() -> None:
        process = os.fork()
        shout()
        if process == 0:
            os._exit(0)
        os.waitpid(process, 0)

    entries = printed(execution, lambda: shouting())

    heard: dict[str, list[int]] = {}
    for entry in entries:
        process, _, number, rest = entry.message.split()
        assert rest == "x" * 500
        heard.setdefault(process, []).append(int(number))
    assert list(heard.values()) == [list(range(lines))] * 2


DEPLOYED = """
import logging, os, subprocess, sys, threading
from kitaru_runner.child.socket_journal import leave
from kitaru_runner.engine.body import output as logs

logs.begin_own(3)
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
print("printed")
logging.getLogger("mine").info("logged")
sys.stdout.flush()
subprocess.run(["sh", "-c", "echo from a subprocess; printf half >&2"])
thread = threading.Thread(target=print, args=("from a thread",))
thread.start()
thread.join()
sys.stdout.buffer.write(b"bytes\\n")
sys.stdout.flush()
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
print("still here", end="")
leave(0)
"""


def test_in_a_deployed_flows_process_records_stand_among_raw_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("ab") as log:
        done = subprocess.run([sys.executable, "-c", DEPLOYED], stdout=log, stderr=log)

    assert done.returncode == 0
    entries = read_log(path)
    assert [(entry.message, entry.stream, entry.level) for entry in entries] == [
        ("printed", "stdout", None),
        ("logged", "stdout", "INFO"),
        ("from a subprocess", None, None),
        ("half", None, None),
        ("from a thread", "stdout", None),
        ("bytes", None, None),
        ("still here", "stdout", None),
    ]
    assert {entry.attempt for entry in entries} == {3}
