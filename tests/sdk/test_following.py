"""`handle.logs()` and `handle.stream()`: what an execution prints, and what it prints now, in whatever process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from kitaru import FlowHandle, KitaruUsageError
from kitaru_registry.errors import KitaruNotFoundError, KitaruStateError
from kitaru_registry.journal.log_lines import log_file
from kitaru_registry.models import Execution, LogEntry

if TYPE_CHECKING:
    from tests.sdk.conftest import Project

FLOWS = """
@checkpoint
def at_gate(name):
    print("at", name)
    while not Path(name).exists():
        time.sleep(0.005)
    return name

@flow
def slow(fail: bool = False):
    at_gate("first")
    at_gate("second")
    print("done", end="")
    if fail:
        raise ValueError("failed")

@flow
def review():
    print("asking")
    print("answer", wait(name="approve", schema=bool))

@flow
def quiet():
    at_gate.submit
"""


def through(project: Project, entries: Iterator[LogEntry]) -> list[str]:
    """The messages, where each gate opens only when its line has come: live, or never."""
    told = []
    for entry in entries:
        told.append(entry.message)
        if entry.message.startswith("at "):
            project.open_gate(entry.message.removeprefix("at "))
    return told


@pytest.mark.parametrize("fail", [False, True])
def test_a_stream_brings_each_line_while_the_flow_goes_on_and_ends_with_it(project: Project, fail: bool) -> None:
    handle = project.load(FLOWS).slow.run(fail)

    assert through(project, handle.stream()) == ["at first", "at second", "done"]
    assert handle.status == ("failed" if fail else "completed")
    assert [entry.message for entry in handle.logs()] == ["at first", "at second", "done"]


def test_a_stream_goes_on_behind_the_entry_whose_offset_it_is_given(project: Project) -> None:
    handle = project.load(FLOWS).slow.run()
    first = next(handle.stream())
    project.open_gate("first")

    assert first.checkpoint == "at_gate"
    assert through(project, handle.stream(first.offset)) == ["at second", "done"]


def test_an_execution_of_another_process_is_streamed_too(project: Project) -> None:
    project.write(FLOWS + "\nslow.run().wait()\n")
    project.start("flows.py")
    project.until(lambda: bool(project.client.executions.list()), "the execution is there")
    handle = project.client.executions.handle(project.only_execution().exec_id)

    assert through(project, handle.stream()) == ["at first", "at second", "done"]


def test_who_follows_hears_of_a_wait_once_and_of_the_end_last(project: Project) -> None:
    handle: FlowHandle = project.load(FLOWS).review.run()

    heard: list[str] = []
    for found in project.client.executions.follow(handle.exec_id):
        heard.append(found.message if isinstance(found, LogEntry) else found.status)
        if isinstance(found, Execution) and found.status == "waiting":
            project.client.executions.input(handle.exec_id, value=True)

    assert heard == ["asking", "waiting", "answer True", "completed"]


def test_who_follows_hears_that_nobody_executes_it_any_more(project: Project) -> None:
    project.write(FLOWS + "\nslow.run().wait()\n")
    process = project.start("flows.py")
    project.until(lambda: bool(project.client.executions.list()), "the execution is there")
    exec_id = project.only_execution().exec_id
    heard = project.client.executions.follow(exec_id)
    assert isinstance(next(heard), LogEntry)

    process.kill()
    found = next(heard)

    assert isinstance(found, Execution)
    assert found.status == "running"
    assert found.status_reason is not None
    assert found.status_reason.startswith("its process is gone; go on: kitaru executions resume")
    project.client.executions.cancel(exec_id)
    assert [found.status for found in heard if isinstance(found, Execution)] == ["cancelled"]


def test_a_flow_that_prints_nothing_has_no_log(project: Project) -> None:
    handle = project.load(FLOWS).quiet.run()
    handle.wait()

    assert (handle.logs(), list(handle.stream())) == ([], [])
    assert not log_file(project.home, handle.exec_id).exists()


def test_a_log_that_is_cut_while_it_is_followed_is_read_from_its_new_beginning(project: Project) -> None:
    handle = project.load(FLOWS).slow.run()
    stream, log = handle.stream(), log_file(project.home, handle.exec_id)
    assert next(stream).message == "at first"
    with log.open("a") as file:
        file.write("long " * 1000 + "\n")
    assert next(stream).message.startswith("long")

    log.write_bytes(b"")
    project.open_gate("first")

    assert through(project, stream) == ["at second", "done"]


def test_logs_of_one_checkpoint(project: Project) -> None:
    handle = project.load(FLOWS).slow.run()
    through(project, handle.stream())

    assert [entry.message for entry in handle.logs(checkpoint="at_gate")] == ["at first", "at second"]
    assert [entry.message for entry in handle.logs(checkpoint="at_gate#2")] == ["at second"]
    with pytest.raises(KitaruNotFoundError, match=r"no checkpoint gate; it has: at_gate, at_gate#2"):
        handle.logs(checkpoint="gate")


@pytest.mark.parametrize("wrong", [{"offset": -1}, {"interval": 0}, {"source": "steps"}])
def test_following_from_nowhere_is_refused(wrong: dict[str, int], project: Project) -> None:
    handle = project.load(FLOWS).quiet.run()
    handle.wait()

    with pytest.raises(KitaruUsageError):
        project.client.executions.follow(handle.exec_id, **wrong)  # type: ignore[arg-type]


def test_a_log_is_read_entry_by_entry_as_far_as_it_is_asked_for(project: Project) -> None:
    handle = project.load(FLOWS).slow.run()
    assert through(project, handle.stream()) == ["at first", "at second", "done"]
    executions = project.client.executions

    log = log_file(project.home, handle.exec_id)
    entries = executions.each_log_entry(handle.exec_id)
    first = next(entries)
    with log.open("a") as file:
        file.write("later\n")

    assert [entry.message for entry in (first, *entries)] == ["at first", "at second", "done", "later"]
    with pytest.raises(KitaruNotFoundError, match="has no checkpoint gate"):
        list(executions.each_log_entry(handle.exec_id, checkpoint="gate"))


def test_nobody_waits_for_ever_for_a_process_that_is_gone(project: Project) -> None:
    project.write(FLOWS + "\nslow.run().wait()\n")
    process = project.start("flows.py")
    project.until(lambda: bool(project.client.executions.list()), "the execution is there")
    handle = project.client.executions.handle(project.only_execution().exec_id)
    entries = handle.stream()
    next(entries)
    process.kill()

    for wait_for_it in (lambda: list(entries), handle.wait, handle.until_settled):
        with pytest.raises(KitaruStateError, match="has stopped: its process is gone") as told:
            wait_for_it()
        assert told.value.hint == f"kitaru executions resume {handle.exec_id}"
    handle.cancel()
