"""A flow that is started in a flow is an execution of its own, journalled with its parent."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from kitaru import KitaruContextError, KitaruUsageError, KitaruUserCodeError, flow

if TYPE_CHECKING:
    from tests.sdk.conftest import Project

FLOWS = """
def count(name):
    with Path(name).open("a") as file:
        file.write("x")
    return Path(name).stat().st_size

@checkpoint
def work(number):
    count(f"work{number}")
    return number * 10

@checkpoint
def at_gate(name):
    Path(f"{name}.reached").touch()
    while not Path(name).exists():
        time.sleep(0.005)
    return name

@checkpoint
def together(number, of):
    # Ends when all are here at once.
    Path(f"here{number}").touch()
    while len(list(Path().glob("here*"))) < of:
        time.sleep(0.005)
    return number

@flow
def child(number: int = 1):
    return work(number)

@flow
def unlucky(number: int = 13):
    raise LookupError(f"no {number}")

@flow
def shaky():
    if count("shaky") == 1:
        raise ConnectionError("the first time")
    return "worked"

@flow
def asks():
    return wait(name="approve", schema=bool)

@flow
def gated(name: str):
    return at_gate(name)

@flow
def parent():
    first, second = child.run(1), child.run(number=2)
    return first.wait() + second.wait(), work(3)

@flow
async def async_parent():
    first = await child.run(1)
    rest = await asyncio.gather(*(child.run(number).wait() for number in (2, 3)))
    return [first, *rest]

@flow
def factorial(n: int):
    return 1 if n < 2 else n * factorial.run(n - 1).wait()

@flow
def meeting(size: int):
    @flow
    def guest(number: int):
        return together(number, size)
    handles = [guest.run(number) for number in range(size)]
    return [handle.wait() for handle in handles]

@flow
def catches():
    try:
        unlucky.run().wait()
    except KitaruUserCodeError as error:
        cause = error.__cause__
        return type(cause).__name__, str(cause), error.failure_origin, error.status, work(1)

@flow
def fails():
    work(1)
    unlucky.run().wait()

@flow(retries=1)
def retries():
    return work(1), shaky.run().wait()

@flow
def asks_below():
    return [work(1), asks.run().wait(), work(2)]

@flow
def looks():
    handle = gated.run("gate")
    before = handle.status
    try:
        handle.get()
    except KitaruStateError as error:
        early = type(error).__name__
    try:
        handle.wait(timeout=0.01)
    except KitaruStateError as error:
        late = type(error).__name__
    Path("gate").touch()
    value = handle.wait()
    return early, late, value, handle.get(), handle.status

@checkpoint
def starts_one():
    return child.run().wait()

@flow
def in_a_checkpoint():
    return starts_one()

@flow
def other_inputs():
    first = child.run(number=os.getpid())
    os._exit(1) if count("attempts") == 1 else None
    return first.wait()

@flow
def invokes_nothing():
    try:
        child.invoke(tag="stable")
    except KitaruNotFoundError as error:
        return str(error)

@flow
def invokes_badly():
    unlucky.invoke(number="thirteen")

@flow
def gated_below(name: str):
    return work(1), gated.run(name).wait(), work(2)
"""


@pytest.fixture
def flows(project: Project) -> Any:
    return project.load(FLOWS)


def size(project: Project, name: str) -> int:
    path = project.root / name
    return path.stat().st_size if path.exists() else 0


def test_children_are_executions_that_know_their_parent(flows: Any, project: Project) -> None:
    handle = flows.parent.run()

    assert handle.wait(30) == (30, 30)
    found = project.client.executions.get(handle.exec_id)
    assert [(child.flow, child.key, child.status) for child in found.children] == [
        ("child", "child", "completed"), ("child", "child#2", "completed"),
    ]  # fmt: skip
    listed = project.client.executions.list(parent=handle.exec_id)
    assert [one.exec_id for one in listed] == [one.exec_id for one in reversed(found.children)]
    for one in listed:
        assert (one.parent, one.kind, one.actor) == (handle.exec_id, "source", "ada@analytical")
    assert [one.inputs for one in listed] == [{"number": 2}, {"number": 1}]


def test_asynchronous_parents_await_their_children(flows: Any) -> None:
    assert flows.async_parent.run().wait(30) == [10, 20, 30]


def test_a_flow_may_start_itself(flows: Any, project: Project) -> None:
    assert flows.factorial.run(5).wait(30) == 120
    assert len(project.client.executions.list(flow="factorial")) == 5


def test_children_that_are_started_before_any_is_waited_for_execute_at_once(flows: Any) -> None:
    assert flows.meeting.run(10).wait(60) == list(range(10))


# Failures


def test_a_child_s_failure_is_raised_in_its_parent_with_the_exception_as_its_cause(flows: Any) -> None:
    assert flows.catches.run().wait(30) == ("LookupError", "no 13", "user_code", "failed", 10)


def test_a_child_s_failure_that_nobody_catches_is_the_parent_s(flows: Any, project: Project) -> None:
    handle = flows.fails.run()

    with pytest.raises(KitaruUserCodeError, match="of unlucky failed: LookupError: no 13") as caught:
        handle.wait(30)

    assert isinstance(caught.value.__cause__, KitaruUserCodeError)
    assert isinstance(caught.value.__cause__.__cause__, LookupError)
    error = project.client.executions.get(handle.exec_id).error
    assert error is not None
    assert (error.type, error.checkpoint, error.origin) == ("KitaruUserCodeError", "wait:unlucky", "user_code")
    assert error.traceback is not None
    assert 'raise LookupError(f"no {number}")' in error.traceback


def test_a_parent_s_retry_retries_the_child_that_failed(flows: Any, project: Project) -> None:
    handle = flows.retries.run()

    assert handle.wait(30) == (10, "worked")
    (only,) = project.client.executions.get(handle.exec_id).children
    assert project.client.executions.get(only.exec_id).attempt == 2
    assert (size(project, "shaky"), size(project, "work1")) == (2, 1)


# The handle


def test_what_a_parent_learns_of_a_child_is_the_child_s_state_at_that_moment(flows: Any) -> None:
    early, late, *values, status = flows.looks.run().wait(30)

    assert (early, late) == ("KitaruNotFinishedError", "KitaruNotFinishedError")
    assert (values, status) == (["gate", "gate"], "completed")


def test_a_handle_outside_of_its_parent_says_where_to_ask(project: Project) -> None:
    from kitaru.children import ChildHandle

    with pytest.raises(KitaruContextError, match="outside of its parent's flow") as caught:
        ChildHandle("1234", "child").wait()

    assert caught.value.hint == "from outside: KitaruClient().executions.handle('1234')"


def test_a_flow_inside_a_checkpoint_is_refused(flows: Any, project: Project) -> None:
    handle = flows.in_a_checkpoint.run()

    with pytest.raises(KitaruUserCodeError, match="flow child was started inside checkpoint starts_one") as caught:
        handle.wait(30)

    assert isinstance(caught.value.__cause__, KitaruContextError)
    assert project.client.executions.get(handle.exec_id).children == ()


@pytest.mark.usefixtures("cold_home")
def test_flows_without_a_file_may_be_children() -> None:
    @flow
    def inner(value: int) -> int:
        return value + 1

    @flow
    def outer() -> int:
        return int(inner.run(1).wait())

    assert outer.run().wait(30) == 2


# Invoked versions


def test_a_version_that_is_not_there_is_an_error_that_a_replay_raises_too(flows: Any, project: Project) -> None:
    assert "no flow child" in flows.invokes_nothing.run().wait(30)


# Crashes and resumption

RUN = "import sys, flows; getattr(flows, sys.argv[1]).run(*sys.argv[2:])"


def test_a_parent_that_is_resumed_goes_on_with_its_child(flows: Any, project: Project) -> None:
    process = project.start("-c", RUN, "gated_below", "gate")
    project.until_there("gate.reached")
    (root,) = project.client.executions.list(flow="gated_below")
    project.until_status(root.exec_id, "waiting")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (project.root / "gate.reached").unlink()

    project.client.executions.resume(root.exec_id)
    project.until_there("gate.reached")
    project.open_gate("gate")

    found = project.until_status(root.exec_id, "completed")
    assert found.result == [10, "gate", 20]
    assert [child.status for child in found.children] == ["completed"]
    assert [size(project, f"work{number}") for number in (1, 2)] == [1, 1]


def test_an_answer_to_a_child_without_a_process_sets_the_whole_family_going(flows: Any, project: Project) -> None:
    process = project.start("-c", RUN, "asks_below")
    project.until(lambda: project.client.waits.list() != [], "the child waits")
    (below,) = project.client.executions.list(flow="asks")
    (root,) = project.client.executions.list(flow="asks_below")
    project.until_status(root.exec_id, "waiting")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    project.client.executions.input(below.exec_id, value=True)

    assert project.until_status(root.exec_id, "completed").result == [10, True, 20]
    assert project.client.executions.status(below.exec_id) == "completed"


def test_a_child_of_other_inputs_than_recorded_is_noted(flows: Any, project: Project) -> None:
    process = project.start("-c", RUN, "other_inputs")
    process.wait()
    (root,) = project.client.executions.list(flow="other_inputs")

    project.client.executions.resume(root.exec_id)

    found = project.until_status(root.exec_id, "completed")
    assert len(found.children) == 1
    assert found.result == process.pid * 10


def test_bad_inputs_start_no_child(flows: Any, project: Project) -> None:
    @flow
    def badly() -> None:
        flows.child.run(numbr=1)

    with pytest.raises(KitaruUserCodeError) as caught:
        badly.run().wait(30)

    assert isinstance(caught.value.__cause__, KitaruUsageError)
    assert project.client.executions.list(flow="child") == []
