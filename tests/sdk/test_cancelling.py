"""A cancellation reaches whatever executes in this process, and the children too."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kitaru import KitaruExecutionError
from kitaru_registry.errors import KitaruConflictError

if TYPE_CHECKING:
    from tests.sdk.conftest import Project

FLOWS = """
@checkpoint
def step(number):
    return number

@checkpoint
def turns(name):
    Path(f"{name}.reached").touch()
    try:
        while True:
            time.sleep(0.001)
    finally:
        Path(f"{name}.left").touch()

@checkpoint(timeout=600)
def turns_in_time(name):
    Path(f"{name}.reached").touch()
    try:
        while True:
            time.sleep(0.001)
    finally:
        Path(f"{name}.left").touch()

@checkpoint
def outer(name):
    return inner(name)

@checkpoint
def inner(name):
    Path(f"{name}.reached").touch()
    try:
        while True:
            step(1)
    finally:
        Path(f"{name}.left").touch()

@checkpoint
def blocks(name):
    Path(f"{name}.reached").touch()
    os.mkfifo(name)
    return Path(name).read_text()

@checkpoint
async def sleeps(name):
    Path(f"{name}.reached").touch()
    try:
        await asyncio.sleep(600)
    finally:
        Path(f"{name}.left").touch()

@checkpoint(runtime="isolated")
def turns_elsewhere(name):
    Path(f"{name}.reached").write_text(str(os.getpid()))
    while True:
        time.sleep(0.001)

@flow
def busy_elsewhere(name: str):
    step(1)
    turns_elsewhere(name)

@flow
def busy(name: str):
    step(1)
    turns(name)

@flow
def busy_in_time(name: str):
    step(1)
    turns_in_time(name)

@flow
def busy_in_a_pool(name: str):
    step(1)
    futures = turns.map([name, f"{name}2"])
    return [future.result() for future in futures]

@flow
def busy_within(name: str):
    step(1)
    outer(name)

@flow
async def busy_async(name: str):
    step(1)
    try:
        await asyncio.gather(sleeps(name), asyncio.sleep(600))
    finally:
        try:
            step(2)
        except BaseException as error:
            Path("in finally").write_text(type(error).__name__)

@flow
async def without_a_checkpoint(name: str):
    Path(f"{name}.reached").touch()
    try:
        await asyncio.sleep(600)
    finally:
        Path(f"{name}.left").touch()

@flow
async def deaf(name: str):
    step(1)
    try:
        await sleeps(name)
    except asyncio.CancelledError:
        pass
    return "went on"

@flow
def blocked(name: str):
    step(1)
    return blocks(name)

@flow
def child(name: str):
    step(1)
    turns(name)

@flow
def grandparent(name: str):
    return parent.run(name).wait()

@flow
def parent(name: str):
    return child.run(name).wait()

@flow
def parent_that_catches(name: str):
    try:
        child.run(name).wait()
    except KitaruExecutionError as error:
        return type(error).__name__, error.status

@flow(retries=1)
def parent_that_does_not(name: str):
    step(1)
    return child.run(name).wait()
"""


@pytest.fixture
def flows(project: Project) -> Any:
    return project.load("from kitaru import *\n" + FLOWS)


@pytest.mark.parametrize(
    "name", ["busy", "busy_in_time", "busy_in_a_pool", "busy_within", "busy_async", "deaf", "without_a_checkpoint"]
)
def test_what_executes_is_ended_and_what_is_recorded_stays(flows: Any, project: Project, name: str) -> None:
    handle = getattr(flows, name).run("gate")
    project.until_there("gate.reached")

    cancelled = project.client.executions.cancel(handle.exec_id, reason="wrong topic")

    assert (cancelled.status, cancelled.status_reason) == ("cancelled", "cancelled by ada@analytical: wrong topic")
    project.until_there("gate.left")
    assert {call.key for call in cancelled.checkpoints} <= {"step", *(f"step#{n}" for n in range(10))} | {
        call.key for call in cancelled.checkpoints if call.key.startswith("outer/")
    }
    with pytest.raises(KitaruExecutionError, match="was cancelled by ada@analytical"):
        handle.wait(30)
    project.until(lambda: not threads_of(name), "its threads have ended")


def threads_of(flow: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == f"kitaru-{flow}"]


def test_what_a_cancelled_flow_cleans_up_with_is_not_recorded(flows: Any, project: Project) -> None:
    handle = flows.busy_async.run("gate")
    project.until_there("gate.reached")

    handle.cancel()

    project.until_there("in finally")
    project.until(lambda: (project.root / "in finally").read_text() == "ExecutionCancelled", "it was refused")
    assert [call.key for call in project.client.executions.get(handle.exec_id).checkpoints] == ["step"]


def test_one_that_blocks_outside_of_python_has_ended_for_everybody_else(flows: Any, project: Project) -> None:
    handle = flows.blocked.run("pipe")
    project.until_there("pipe")

    assert handle.cancel().status == "cancelled"

    os.close(os.open(project.root / "pipe", os.O_WRONLY))
    project.until(lambda: not threads_of("blocked"), "its thread has ended")
    assert [call.key for call in project.client.executions.get(handle.exec_id).checkpoints] == ["step"]


def test_a_checkpoint_s_own_process_is_ended(flows: Any, project: Project) -> None:
    handle = flows.busy_elsewhere.run("gate")
    project.until_there("gate.reached")
    project.until(lambda: (project.root / "gate.reached").read_text() != "", "it has said its process")
    process = (project.root / "gate.reached").read_text()

    assert handle.cancel().status == "cancelled"

    project.until(lambda: not Path(f"/proc/{process}").exists(), "the process has ended")
    assert [call.key for call in project.client.executions.get(handle.exec_id).checkpoints] == ["step"]


def test_children_of_children_are_cancelled_with_the_first(flows: Any, project: Project) -> None:
    handle = flows.grandparent.run("gate")
    project.until_there("gate.reached")

    assert handle.cancel().status == "cancelled"

    project.until_there("gate.left")
    for name in ("parent", "child"):
        (below,) = project.client.executions.list(flow=name)
        assert project.until_status(below.exec_id, "cancelled").status_reason is not None
        assert "cancelled by ada@analytical, with its parent" in str(
            project.client.executions.get(below.exec_id).status_reason
        )


def test_a_child_s_own_cancellation_is_an_error_that_its_parent_may_catch(flows: Any, project: Project) -> None:
    handle = flows.parent_that_catches.run("gate")
    project.until_there("gate.reached")
    (below,) = project.client.executions.list(flow="child")

    project.client.executions.cancel(below.exec_id)

    assert handle.wait(30) == ("KitaruExecutionError", "cancelled")


def test_a_child_s_own_cancellation_uses_up_no_retry_of_its_parent(flows: Any, project: Project) -> None:
    handle = flows.parent_that_does_not.run("gate")
    project.until_there("gate.reached")
    (below,) = project.client.executions.list(flow="child")

    project.client.executions.cancel(below.exec_id)

    with pytest.raises(KitaruExecutionError, match="of child was cancelled"):
        handle.wait(30)
    assert project.client.executions.get(handle.exec_id).attempt == 1


def test_another_process_s_cancellation_is_heard(flows: Any, project: Project) -> None:
    handle = flows.busy.run("gate")
    project.until_there("gate.reached")

    assert project.kitaru("executions", "cancel", handle.exec_id).returncode == 0

    project.until_there("gate.left")
    assert handle.status == "cancelled"


def test_one_that_has_ended_cannot_be_cancelled(flows: Any, project: Project) -> None:
    @flows.flow
    def short() -> int:
        return 1

    handle = short.run()
    handle.wait(30)

    with pytest.raises(KitaruConflictError, match="has completed already"):
        handle.cancel()


def test_a_writer_that_is_shared_survives_cancellations(flows: Any, project: Project) -> None:
    """What strikes a thread never strikes while it writes: others record with the same connection."""
    for number in range(5):
        handle = flows.busy_within.run(f"gate{number}")
        project.until_there(f"gate{number}.reached")
        handle.cancel()
        project.until_there(f"gate{number}.left")
        with pytest.raises(KitaruExecutionError, match="cancelled"):
            handle.wait(30)

    @flows.flow
    def after() -> int:
        return int(flows.step(5))

    assert after.run().wait(30) == 5


def test_a_replay_may_begin_at_what_it_was_in(flows: Any, project: Project) -> None:
    handle = project.load(FLOWS + SLOW).slow.run()
    project.until(
        lambda: [call.key for call in project.client.executions.get(handle.exec_id).checkpoints][-1:] == ["turns"],
        "the record says what it is in",
    )

    handle.cancel()

    assert [call.key for call in project.client.executions.get(handle.exec_id).checkpoints] == ["step"]
    plan = project.client.executions.plan_replay(handle.exec_id, from_="turns")
    assert [(call.key, call.does) for call in plan.calls] == [("step", "reused")]


SLOW = """
@flow
def slow():
    step(1)
    turns("slow")
"""
