"""Whoever waits for an execution looks after it again and again: that reads nothing of its journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import event

if TYPE_CHECKING:
    from tests.sdk.conftest import Project

FLOW = """
@checkpoint
def step(number):
    return number

@flow
def steps(count):
    for number in range(count):
        step(number)
"""


def test_a_look_at_a_long_execution_reads_none_of_its_journal(project: Project) -> None:
    handle = project.load(FLOW).steps.run(count=3)
    handle.wait(60)
    asked: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        asked.append(statement)

    event.listen(project.client.database.engine, "before_cursor_execute", note)
    project.client.look_after(handle.exec_id)

    assert asked
    assert not [statement for statement in asked if "journal" in statement]
