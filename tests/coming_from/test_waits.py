"""Rows of docs/coming-from.md: waits."""

from __future__ import annotations

import pytest
from rows import row
from tests.coming_from.conftest import Code

import kitaru
from kitaru import KitaruUserCodeError, KitaruWaitAborted, KitaruWaitTimeout, KitaruWaitValidationError

REVIEW = """
@flow
def review(topic: str):
    return topic if wait(name="approve", question="Publish?", schema=bool, metadata={"topic": topic}) else "Rejected"
"""


def settle(handle: kitaru.FlowHandle) -> None:
    assert handle.until_settled(30).status == "waiting"


@row("wait(schema=, name=, question=, metadata=)", "executions.input(id, wait=, value=)")
@row("executions.pending_waits(id)", "PendingWait")
def test_a_wait_is_answered_and_the_flow_goes_on_by_itself(code: Code) -> None:
    handle = code.load(REVIEW).review.run("tea")
    settle(handle)
    executions = code.client.executions

    (pending,) = executions.pending_waits(handle.exec_id)
    assert (pending.wait_id, pending.name, pending.question) == ("approve", "approve", "Publish?")
    assert (pending.schema_, pending.metadata) == ({"type": "boolean"}, {"topic": "tea"})
    assert pending.entered_waiting_at == pending.entered_at
    assert executions.get(handle.exec_id).pending_wait == pending
    with pytest.raises(KitaruWaitValidationError):
        executions.input(handle.exec_id, wait="approve", value="perhaps")
    executions.input(handle.exec_id, wait="approve", value=False)

    assert handle.wait(timeout=30) == "Rejected"


@row("wait(timeout=)")
def test_a_wait_expires(code: Code) -> None:
    made = code.load("""
@flow
def patient():
    return wait(name="a", schema=int, timeout=0.01, default=7)

@flow
def strict():
    return wait(name="a", schema=int, timeout=0.01)
""")

    assert made.patient.run().wait(timeout=30) == 7
    with pytest.raises(KitaruUserCodeError) as raised:
        made.strict.run().wait(timeout=30)
    assert isinstance(raised.value.__cause__, KitaruWaitTimeout)


@row("wait() in a checkpoint")
def test_a_wait_in_a_checkpoint_is_refused(code: Code) -> None:
    made = code.load("""
@checkpoint
def ask():
    return wait(schema=bool)

@flow
def work():
    return ask()
""")

    with pytest.raises(KitaruUserCodeError, match="inside checkpoint ask"):
        made.work.run().wait(timeout=30)


@row("executions.abort_wait(id, wait=)")
def test_a_wait_is_aborted(code: Code) -> None:
    handle = code.load(REVIEW).review.run("tea")
    settle(handle)

    code.client.executions.abort_wait(handle.exec_id, wait="approve")

    with pytest.raises(KitaruUserCodeError) as raised:
        handle.wait(timeout=30)
    assert isinstance(raised.value.__cause__, KitaruWaitAborted)
