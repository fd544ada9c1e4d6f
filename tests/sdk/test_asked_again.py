"""A wait that ended a flow is asked anew by a retry: expired, aborted, or with an answer that the flow refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from kitaru_registry.errors import KitaruUserCodeError

if TYPE_CHECKING:
    from tests.sdk.conftest import Project

    from kitaru_registry.models import Execution

FLOWS = """
from pydantic import BaseModel, field_validator

class Price(BaseModel):
    euros: int

    @field_validator("euros")
    @classmethod
    def is_fair(cls, euros):
        if euros < 10:
            raise ValueError("10 or more")
        return euros

@checkpoint
def send(what):
    with open("sent", "a") as file:
        file.write(what + " ")
    if not Path("open").exists():
        raise ConnectionError(what)
    return what

@flow
def picky():
    return wait(name="price", schema=Price).euros

@flow
def late():
    return wait(name="price", schema=int, timeout=6 if Path("patient").exists() else 0.05)

@flow
def aborted():
    return wait(name="price", schema=int)

@flow
def several():
    return wait_any(dict(name="lead", schema=int), dict(name="boss", schema=int),
                    timeout=6 if Path("patient").exists() else 0.05).value

@flow
def handled():
    try:
        wait(name="price", schema=int, timeout=0.05)
    except KitaruWaitTimeout:
        return send("escalation")

@flow(retries=2)
def stubborn():
    return wait(name="price", schema=int)
"""


def refuse(project: Project, exec_id: str) -> None:
    project.client.executions.input(exec_id, wait="price", value={"euros": 1})


def abort(project: Project, exec_id: str) -> None:
    project.client.executions.abort_wait(exec_id, wait="price")


def ended(project: Project, flow: str, end: Callable[[Project, str], None] | None = None) -> Execution:
    """An execution of the flow, which has failed."""
    handle = getattr(project.load(FLOWS), flow).run()
    if end is not None:
        project.until_status(handle.exec_id, "waiting")
        end(project, handle.exec_id)
    with pytest.raises(KitaruUserCodeError):
        handle.wait(60)
    return project.client.executions.get(handle.exec_id)


@pytest.mark.parametrize(
    ("flow", "end", "answer", "result"),
    [
        ("picky", refuse, {"euros": 12}, 12),
        ("late", None, 12, 12),
        ("aborted", abort, 12, 12),
    ],
)
def test_a_retry_asks_again(
    project: Project, flow: str, end: Callable[[Project, str], None] | None, answer: Any, result: int
) -> None:
    execution = ended(project, flow, end)
    assert execution.error is not None
    assert execution.error.failed == ("price",)
    project.open_gate("patient")

    handle = project.client.executions.retry(execution.exec_id)
    project.until_status(execution.exec_id, "waiting")
    project.client.executions.input(execution.exec_id, wait="price", value=answer)

    assert handle.wait(60) == result


def test_of_several_questions_all_are_asked_again(project: Project) -> None:
    execution = ended(project, "several")
    project.open_gate("patient")

    handle = project.client.executions.retry(execution.exec_id)
    project.until_status(execution.exec_id, "waiting")
    asked = [wait.key for wait in project.client.executions.pending_waits(execution.exec_id)]
    assert asked == ["wait_any/lead", "wait_any/boss"]
    project.client.executions.input(execution.exec_id, wait="boss", value=3)

    assert handle.wait(60) == 3


def test_what_came_of_the_first_asking_is_kept(project: Project) -> None:
    execution = ended(project, "picky", refuse)
    handle = project.client.executions.retry(execution.exec_id)
    project.until_status(execution.exec_id, "waiting")
    handle.cancel()

    first = project.client.waits.get(execution.exec_id, f"price!{retry_seq(project)}")
    assert (first.status, first.answer, first.answered_by) == ("superseded", {"euros": 1}, "ada@analytical")


def retry_seq(project: Project) -> int:
    """The number of the retry in the journal."""
    with project.client.database.read() as connection:
        found: int = connection.exec_driver_sql("SELECT max(seq) FROM journal WHERE kind = 'r'").scalar_one()
    return found


def test_the_refusal_says_how_to_ask_again(project: Project) -> None:
    handle = project.load(FLOWS).picky.run()
    project.until_status(handle.exec_id, "waiting")
    refuse(project, handle.exec_id)

    with pytest.raises(KitaruUserCodeError) as raised:
        handle.wait(60)
    assert getattr(raised.value.__cause__, "hint", None) == f"kitaru executions retry {handle.exec_id} asks again"


def test_a_wait_whose_end_the_flow_handles_is_not_asked_again(project: Project) -> None:
    execution = ended(project, "handled")
    assert execution.error is not None
    assert execution.error.failed == ("send",)
    project.open_gate("open")

    assert project.client.executions.retry(execution.exec_id).wait(60) == "escalation"


def test_a_flow_s_own_retries_do_not_ask_again(project: Project) -> None:
    execution = ended(project, "stubborn", abort)

    assert execution.attempt == 3
    assert project.client.waits.get(execution.exec_id, "price").status == "aborted"
