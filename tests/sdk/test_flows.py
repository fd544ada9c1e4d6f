"""`.run()`: an execution in this process, that is there at once, and that can be asked, answered and ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kitaru import KitaruContextError, KitaruExecutionError, KitaruUsageError, KitaruUserCodeError, load
from kitaru_registry.errors import (
    KitaruConflictError,
    KitaruNotFinishedError,
    KitaruNotFoundError,
    KitaruWaitValidationError,
)

if TYPE_CHECKING:
    from tests.sdk.conftest import Project

FLOWS = """
@checkpoint
def draft(topic):
    return f"About {topic}"

@checkpoint
def at_gate(name):
    while not Path(name).exists():
        time.sleep(0.005)
    return name

@flow
def write(topic: str, copies: int = 1):
    return [draft(topic)] * copies, current_execution_id()

@flow
def slow(gate: str):
    first = at_gate(gate)
    return first, draft("the end")

@flow
def review(topic: str):
    text = draft(topic)
    return text if wait(name="approve", question="Publish?", schema=bool) else "Rejected"

@flow
def spread(first, /, *rest, last="z", **more):
    return [first, list(rest), last, more]

@flow
async def gather(pages: int):
    async def one(page):
        return page * 2
    return sum(await asyncio.gather(*(one(page) for page in range(pages))))

class Refused(Exception):
    def __init__(self, *, by):
        super().__init__(f"refused by {by}")
        self.by = by

@checkpoint
def refuse():
    raise Refused(by="ada")

@flow
def failing():
    refuse()

@flow
def generating():
    return (number for number in range(3))
"""


@pytest.fixture
def flows(project: Project) -> Any:
    return project.load(FLOWS)


def test_a_flow_that_is_called_directly_says_what_to_write(flows: Any) -> None:
    with pytest.raises(KitaruUsageError, match="flow write was called directly") as caught:
        flows.write(topic="agents")

    assert caught.value.hint == "write write.run(...), or .run(...).wait() for its result"


def test_run_returns_at_once(flows: Any, project: Project) -> None:
    handle = flows.slow.run("gate")

    assert handle.status == "running"
    with pytest.raises(KitaruNotFinishedError, match=f"{handle.exec_id} of slow is running still"):
        handle.get()
    with pytest.raises(KitaruNotFinishedError, match=r"is running after 0\.02 s"):
        handle.wait(timeout=0.02)
    project.open_gate("gate")

    assert handle.wait() == ("gate", "About the end")
    assert handle.get() == ("gate", "About the end")
    assert handle.status == "completed"


def test_the_result_has_the_type_that_the_flow_gave(flows: Any) -> None:
    handle = flows.write.run(topic="agents", copies=2)

    assert handle.wait() == (["About agents", "About agents"], handle.exec_id)


def test_arguments_go_where_the_signature_says(flows: Any) -> None:
    assert flows.spread.run(1, 2, 3, last="y", extra=4).wait() == [1, [2, 3], "y", {"extra": 4}]
    assert flows.spread.run(1).wait() == [1, [], "z", {}]
    assert flows.write.run("agents", 2).wait()[0] == ["About agents"] * 2


def test_an_async_flow_runs_on_a_loop_of_its_own(flows: Any) -> None:
    assert flows.gather.run(4).wait() == 12


@pytest.mark.parametrize("arguments", [(), ("a", 1, 2)])
def test_arguments_that_do_not_fit_start_nothing(flows: Any, project: Project, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(KitaruUsageError, match="write: "):
        flows.write.run(*arguments)
    with pytest.raises(KitaruUsageError, match="topci"):
        flows.write.run("agents", topci="tools")

    assert project.client.executions.list() == []


def test_an_input_that_no_codec_carries_is_named_and_nothing_starts(flows: Any, project: Project) -> None:
    with pytest.raises(KitaruUsageError, match=r"topic of write: no codec carries .*generator") as it:
        flows.write.run((letter for letter in "tea"), copies=2)

    assert it.value.hint == "give a list of its values"
    assert project.client.executions.list() == []


def test_a_flow_s_failure_is_raised_with_the_user_s_exception_as_its_cause(flows: Any) -> None:
    handle = flows.failing.run()

    with pytest.raises(KitaruUserCodeError, match=r"of failing failed: Refused: refused by ada") as caught:
        handle.wait()

    assert (caught.value.exec_id, caught.value.status, caught.value.failure_origin) == (
        handle.exec_id, "failed", "user_code",
    )  # fmt: skip
    assert isinstance(caught.value.__cause__, flows.Refused)
    assert caught.value.__cause__.by == "ada"


def test_a_result_that_no_codec_carries_fails_the_execution(flows: Any) -> None:
    with pytest.raises(KitaruExecutionError, match=r"no codec carries a value of type .*generator"):
        flows.generating.run().wait()


# Waits


def test_a_run_waits_in_place_and_goes_on_after_an_answer_from_another_process(flows: Any, project: Project) -> None:
    handle = flows.review.run("agents")
    settled = handle.until_settled(30)
    assert (settled.status, [wait.key for wait in settled.pending_waits]) == ("waiting", ["approve"])

    answered = project.kitaru("executions", "input", handle.exec_id, "--value", "true")

    assert answered.returncode == 0, answered.stderr
    assert handle.wait(30) == "About agents"
    assert project.client.executions.get(handle.exec_id).attempt == 1


def test_an_answer_that_does_not_fit_leaves_it_waiting(flows: Any, project: Project) -> None:
    handle = flows.review.run("agents")
    handle.until_settled(30)

    for value in (1, "true", None, [True]):
        with pytest.raises(KitaruWaitValidationError):
            project.client.executions.input(handle.exec_id, value=value)
    assert handle.status == "waiting"

    project.client.waits.answer(handle.exec_id, "approve", False)
    assert handle.wait(30) == "Rejected"
    with pytest.raises(KitaruConflictError, match="was answered by ada@analytical"):
        project.client.executions.input(handle.exec_id, wait="approve", value=True)


def test_a_waiting_run_is_cancelled_at_once(flows: Any) -> None:
    handle = flows.review.run("agents")
    handle.until_settled(30)

    assert handle.cancel().status == "cancelled"
    with pytest.raises(KitaruExecutionError, match="was cancelled by ada@analytical"):
        handle.wait(30)


# The client


def test_executions_are_found_by_either_end_of_their_id(flows: Any, project: Project) -> None:
    handles = [flows.write.run(topic) for topic in ("agents", "tools")]
    for handle in handles:
        handle.wait(30)
    client = project.client

    assert [found.exec_id for found in client.executions.list()] == [handles[1].exec_id, handles[0].exec_id]
    assert client.executions.get(handles[0].exec_id[-12:]).exec_id == handles[0].exec_id
    assert [found.inputs for found in client.executions.list(where={"topic": "tools"})] == [{"topic": "tools"}]
    assert client.executions.list(status="failed") == []
    with pytest.raises(KitaruNotFoundError, match="there is no execution nobody"):
        client.executions.get("nobody")


def test_a_handle_is_had_again_by_id_and_artifacts_from_anywhere(flows: Any, project: Project) -> None:
    handle = flows.write.run("agents")
    handle.wait(30)

    assert project.client.executions.handle(handle.exec_id).get() == handle.get()
    assert load(handle.exec_id, "draft") == "About agents"
    with pytest.raises(KitaruNotFoundError, match="it has: draft"):
        load(handle.exec_id, "drafts")


def test_what_only_a_flow_can_do_says_so(flows: Any) -> None:
    from kitaru import wait

    with pytest.raises(KitaruContextError, match=r"wait\(\) was called outside of a flow"):
        wait(schema=bool)
    assert flows.draft("agents") == "About agents"
