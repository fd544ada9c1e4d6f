"""A retry goes on at what failed, and keeps all else; an accepted divergence goes on with the call that was found."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from kitaru_registry.errors import KitaruConflictError, KitaruStateError, KitaruUsageError

if TYPE_CHECKING:
    from tests.sdk.conftest import Project

    from kitaru_registry.models import Execution

FLOWS = """
def ran(what):
    with open("ran", "a") as file:
        file.write(what + " ")

def needs(gate):
    if not Path(gate).exists():
        raise ConnectionError(f"no {gate}")

@checkpoint
def first():
    ran("first")
    return "first"

@checkpoint
def weak(name):
    ran(name)
    needs(name)
    return name

@checkpoint
def undo(what):
    ran("undo")
    return f"undone {what}"

@checkpoint
async def strong(name, seconds=0.0):
    await asyncio.sleep(seconds)
    ran(name)
    return name

@checkpoint
async def frail(name):
    await asyncio.sleep(0.01)
    ran(name)
    needs(name)
    return name

@flow
def plain():
    return [first(), weak("a"), weak("b")]

@flow
def caught():
    try:
        weak("optional")
    except ConnectionError as error:
        said = str(error)
    return [said, weak("a")]

@flow
def wrapped():
    try:
        return weak("a")
    except ConnectionError as error:
        raise RuntimeError("it went wrong") from error

@flow
def cleaning():
    begun = first()
    try:
        return [begun, weak("a"), weak("b")]
    except ConnectionError:
        undo(begun)
        raise

@flow
def mapped():
    futures = weak.map(["a", "b", "c"])
    while not all(future.seq for future in futures):
        time.sleep(0.005)
    return [future.result() for future in futures]

@flow
async def grouped():
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(strong("quick")), group.create_task(frail("a")),
                 group.create_task(strong("slow", 30.0 if not Path("a").exists() else 0.0))]
    return [task.result() for task in tasks]

@flow
def child(name):
    return weak(name)

@flow
def one_after_another():
    handles = [child.run(name=name) for name in "abcd"]
    return [handle.wait() for handle in handles]

@flow
async def side_by_side():
    handles = [child.run(name=name) for name in "abcd"]
    return await asyncio.gather(*(handle.wait() for handle in handles))

@flow
def own():
    first()
    needs("a")
    return "done"
"""


@pytest.fixture
def fail(project: Project) -> Callable[[str], Execution]:
    """Run a flow, which fails."""
    flows = project.load(FLOWS)

    def run(name: str) -> Execution:
        handle = getattr(flows, name).run()
        found = handle.until_settled(60)
        assert found.status == "failed", found
        return project.client.executions.get(handle.exec_id)

    return run


Fail = Callable[[str], "Execution"]


def ran(project: Project) -> list[str]:
    path = project.root / "ran"
    found = path.read_text().split() if path.exists() else []
    path.write_text("")
    return found


def retried(project: Project, execution: Execution) -> object:
    handle = project.client.executions.retry(execution.exec_id)
    assert handle.exec_id == execution.exec_id
    return handle.wait(60)


def calls(project: Project, execution: Execution) -> dict[str, str]:
    found = project.client.executions.get(execution.exec_id)
    return {call.key: call.status for call in found.checkpoints}


def test_what_failed_executes_again_and_nothing_else(project: Project, fail: Fail) -> None:
    execution = fail("plain")
    assert execution.error is not None
    assert execution.error.failed == ("weak",)
    ran(project)
    for gate in "ab":
        project.open_gate(gate)

    assert retried(project, execution) == ["first", "a", "b"]
    assert ran(project) == ["a", "b"]
    assert calls(project, execution) == {"first": "completed", "weak": "completed", "weak#2": "completed"}


def test_one_that_fails_again_can_be_retried_again(project: Project, fail: Fail) -> None:
    execution = fail("plain")
    project.open_gate("a")
    project.client.executions.retry(execution.exec_id)
    again = project.until_status(execution.exec_id, "failed")
    assert again.error is not None
    assert again.error.failed == ("weak#2",)
    ran(project)
    project.open_gate("b")

    assert retried(project, execution) == ["first", "a", "b"]
    assert ran(project) == ["b"]


def test_a_failure_that_the_flow_caught_is_kept(project: Project, fail: Fail) -> None:
    execution = fail("caught")
    ran(project)
    for gate in ("optional", "a"):
        project.open_gate(gate)

    assert retried(project, execution) == ["no optional", "a"]
    assert ran(project) == ["a"]


def test_a_failure_that_was_wrapped_executes_again(project: Project, fail: Fail) -> None:
    execution = fail("wrapped")
    assert execution.error is not None
    assert (execution.error.type, execution.error.failed) == ("RuntimeError", ("weak",))
    project.open_gate("a")

    assert retried(project, execution) == "a"


def test_what_cleaned_up_before_the_failure_reached_the_top_is_passed_over(project: Project, fail: Fail) -> None:
    execution = fail("cleaning")
    assert ran(project) == ["first", "a", "undo"]
    for gate in "ab":
        project.open_gate(gate)

    assert retried(project, execution) == ["first", "a", "b"]
    assert ran(project) == ["a", "b"]


def test_cleaning_up_is_done_again_where_the_call_fails_again(project: Project, fail: Fail) -> None:
    execution = fail("cleaning")
    ran(project)
    project.client.executions.retry(execution.exec_id)
    project.until_status(execution.exec_id, "failed")

    assert ran(project) == ["a", "undo"]


def test_all_failed_elements_of_a_map_execute_again(project: Project, fail: Fail) -> None:
    project.open_gate("b")
    execution = fail("mapped")
    assert execution.error is not None
    assert execution.error.failed == ("map[0]/weak", "map[2]/weak")
    ran(project)
    for gate in "ac":
        project.open_gate(gate)

    assert retried(project, execution) == ["a", "b", "c"]
    assert sorted(ran(project)) == ["a", "c"]


def test_what_a_group_cancelled_because_of_the_failure_executes_again(project: Project, fail: Fail) -> None:
    execution = fail("grouped")
    assert execution.error is not None
    assert execution.error.failed == ("task[1]/frail",)
    ran(project)
    project.open_gate("a")

    assert retried(project, execution) == ["quick", "a", "slow"]
    assert sorted(ran(project)) == ["a", "slow"]


def test_a_failure_of_the_flow_s_own_code_goes_on_over_all_that_is_recorded(project: Project, fail: Fail) -> None:
    execution = fail("own")
    assert execution.error is not None
    assert execution.error.failed == ()
    ran(project)
    project.open_gate("a")

    assert retried(project, execution) == "done"
    assert ran(project) == []


@pytest.mark.parametrize("flow", ["one_after_another", "side_by_side"])
def test_children_that_failed_go_on_with_their_parent(project: Project, fail: Fail, flow: str) -> None:
    execution = fail(flow)
    for child in project.client.executions.list(parent=execution.exec_id):
        project.until_status(child.exec_id, "failed")
    for gate in "abcd":
        project.open_gate(gate)

    assert retried(project, execution) == ["a", "b", "c", "d"]


def test_only_what_failed_is_retried(project: Project, fail: Fail) -> None:
    execution = fail("plain")
    for gate in "ab":
        project.open_gate(gate)
    retried(project, execution)

    with pytest.raises(KitaruStateError, match="is completed: only a failed one can be retried"):
        project.client.executions.retry(execution.exec_id)


def test_edited_source_is_no_retry(project: Project, fail: Fail) -> None:
    execution = fail("plain")
    project.write(FLOWS.replace('"first"', '"edited"'))

    with pytest.raises(KitaruConflictError, match=r"has changed since it began: flows\.py"):
        project.client.executions.retry(execution.exec_id)
    assert project.client.executions.get(execution.exec_id).status == "failed"


# Divergence


@pytest.fixture
def diverged(project: Project, fail: Fail) -> Execution:
    """Failed, edited so that another call stands where `weak` was recorded, and resumed on that."""
    execution = fail("caught")
    project.write(FLOWS.replace('        weak("optional")', '        first()\n        weak("optional")'))
    project.open_gate("a")
    project.client.executions.retry(execution.exec_id, with_edits=True)
    found = project.until_status(execution.exec_id, "failed")
    assert found.error is not None
    assert (found.error.origin, found.error.checkpoint) == ("divergence", "first")
    ran(project)
    return found


def test_an_accepted_divergence_goes_on_with_the_call_that_was_found(project: Project, diverged: Execution) -> None:
    handle = project.client.executions.resume(diverged.exec_id, accept="first", reason="a step was added")

    assert handle.wait(60) == ["no optional", "a"]
    assert ran(project) == ["first", "a"]


def test_an_accepted_divergence_is_journalled(project: Project, diverged: Execution) -> None:
    project.client.executions.resume(diverged.exec_id, accept="first", reason="a step was added").wait(60)

    found = project.client.executions.get(diverged.exec_id)
    assert [(it.key, it.reason, it.actor) for it in found.accepted] == [
        ("first", "a step was added", "ada@analytical"),
    ]  # fmt: skip


def test_another_call_than_the_one_that_was_found_is_not_accepted(project: Project, diverged: Execution) -> None:
    with pytest.raises(KitaruConflictError, match="stopped at the call first, not at weak"):
        project.client.executions.resume(diverged.exec_id, accept="weak", reason="because")
    with pytest.raises(KitaruUsageError, match="why may execution"):
        project.client.executions.resume(diverged.exec_id, accept="first")
    assert project.client.executions.get(diverged.exec_id).status == "failed"


def test_a_failure_is_no_divergence_to_accept(project: Project, fail: Fail) -> None:
    execution = fail("plain")

    with pytest.raises(KitaruStateError, match="there is nothing to accept"):
        project.client.executions.resume(execution.exec_id, accept="weak", reason="because")
