"""Rows of docs/coming-from.md: executions, artifacts and logs."""

from __future__ import annotations

import pytest
from rows import row
from tests.coming_from.conftest import Code

import kitaru
from kitaru import KitaruError, KitaruUserCodeError

WORK = """
@checkpoint
def draft(topic):
    print("drafting", topic)
    save("notes", {"about": topic}, type="context", tags=["early"])
    log(words={"count": 2})
    return f"About {topic}"

@flow
def work(topic: str):
    log(stage="begun")
    print("working")
    save("plan", topic)
    return draft(topic)
"""


@pytest.fixture
def done(code: Code) -> kitaru.FlowHandle:
    handle: kitaru.FlowHandle = code.load(WORK).work.run("tea")
    assert handle.wait(timeout=30) == "About tea"
    return handle


@row("save(name, value, type=, tags=)", "load(exec_id, name)")
@row("artifacts.list(exec_id, name=, kind=, producing_call=, limit=)", "artifacts.get(artifact_id)", "ArtifactRef")
def test_what_was_saved_can_be_listed_and_loaded(code: Code, done: kitaru.FlowHandle) -> None:
    artifacts = code.client.artifacts
    (notes,) = artifacts.list(done.exec_id, name="notes")

    assert (notes.name, notes.save_type, notes.producing_call, notes.load()) == (
        "notes", "manual", "draft", {"about": "tea"},
    )  # fmt: skip
    assert artifacts.get(notes.artifact_id).artifact_id == notes.artifact_id
    assert len(artifacts.list(done.exec_id, limit=1)) == 1
    assert {found.name for found in artifacts.list(done.exec_id)} >= {"notes", "plan", "draft"}
    assert kitaru.load(done.exec_id, "plan") == "tea"
    assert kitaru.load(done.exec_id, "draft") == "About tea"


@row("log(...)", "CheckpointCall", "Execution")
def test_a_record_says_what_happened(code: Code, done: kitaru.FlowHandle) -> None:
    found = code.client.executions.get(done.exec_id)
    (call,) = found.checkpoints

    assert (found.exec_id, found.flow_name, found.status) == (done.exec_id, "work", "completed")
    assert (found.failure, found.pending_wait, found.original_exec_id) == (None, None, None)
    assert found.metadata == {"stage": "begun"}
    assert found.ended_at is not None
    assert (call.call_id, call.name, call.status, call.attempts, call.failure) == (
        "draft", "draft", "completed", 1, None,
    )  # fmt: skip
    assert call.metadata == {"words": {"count": 2}}
    assert call.ended_at is not None


@row("executions.logs(id, checkpoint=, source=, limit=)", "LogEntry")
def test_what_was_printed_is_there_by_checkpoint(code: Code, done: kitaru.FlowHandle) -> None:
    executions = code.client.executions

    assert [line.message for line in executions.logs(done.exec_id)] == ["working", "drafting tea"]
    (line,) = executions.logs(done.exec_id, checkpoint="draft", source="step", limit=5)
    assert (line.message, line.checkpoint_name) == ("drafting tea", "draft")
    assert all(hasattr(line, name) for name in ("level", "timestamp", "source", "module", "filename", "lineno"))


@row("materializers")
def test_a_type_may_bring_its_own_codec() -> None:
    assert callable(kitaru.register_codec)


@row("executions.get(id)", "executions.list(flow=, status=, limit=, page=, size=)")
@row("executions.latest(flow=, status=)", "Execution.refresh()", "Execution.flow_id, stack_name, frozen_execution_spec")
def test_executions_are_found(code: Code, done: kitaru.FlowHandle) -> None:
    executions = code.client.executions
    newest = code.load(WORK).work.run("agents")
    newest.wait(timeout=30)

    assert executions.latest(flow="work", status="completed").exec_id == newest.exec_id
    assert [found.exec_id for found in executions.list(flow="work", page=2, size=1)] == [done.exec_id]
    assert executions.list(status="failed") == []
    found = executions.get(done.exec_id[-8:])
    assert found.refresh() == found
    assert [call.key for call in found.list_checkpoints()] == ["draft"]
    assert len(found.list_artifacts()) >= 3
    assert found.replay(from_="draft").wait(timeout=30) == done.get()
    for act in (found.retry, found.resume, found.cancel):
        with pytest.raises(KitaruError, match="completed"):
            act()
    assert not hasattr(found, "stack_name")


@row("executions.retry(id)")
def test_a_failed_execution_is_retried_at_what_failed(code: Code) -> None:
    made = code.load("""
from pathlib import Path

executed = []

@checkpoint
def first():
    executed.append("first")

@checkpoint
def second(gate):
    executed.append("second")
    if not Path(gate).exists():
        raise OSError("closed")
    return "open"

@flow
def work(gate: str):
    first()
    return second(gate)
""")
    gate = code.root.parent / "gate"
    handle = made.work.run(str(gate))
    with pytest.raises(KitaruUserCodeError):
        handle.wait(timeout=30)
    gate.touch()

    code.client.executions.retry(handle.exec_id)

    assert handle.wait(timeout=60) == "open"
    assert made.executed == ["first", "second"]


@row("executions.replay(id, from_=, overrides=)")
def test_an_execution_is_replayed(code: Code, done: kitaru.FlowHandle) -> None:
    again = code.client.executions.replay(done.exec_id, from_="draft", topic="agents")

    assert again.wait(timeout=60) == "About agents"
    assert again.exec_id != done.exec_id


@row("executions.cancel(id)", "executions.resume(id)")
def test_an_open_execution_is_cancelled(code: Code) -> None:
    made = code.load("""
@flow
def patient():
    return wait(name="a", schema=int)
""")
    handle = made.patient.run()
    handle.until_settled(30)

    with pytest.raises(kitaru.KitaruStateError):
        code.client.executions.resume(handle.exec_id)
    assert code.client.executions.cancel(handle.exec_id).status == "cancelled"
