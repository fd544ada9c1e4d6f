"""Two executions side by side: calls, values, inputs, results, and the code of source executions."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from kitaru_registry.errors import KitaruNotFoundError

if TYPE_CHECKING:
    from tests.sdk.conftest import Project

    from kitaru import FlowHandle
    from kitaru_registry.executions.views import ExecutionDiff

FLOWS = """
@checkpoint
def research(topic):
    return f"notes on {topic}"

@checkpoint
def draft(notes):
    return notes.upper()

@checkpoint
def check(text):
    if "WINE" in text:
        raise ValueError("not wine")

@checkpoint
def large(topic):
    return topic * 10_000

@flow
def article(topic: str, careful: bool = False, wide: bool = False):
    text = draft(research(topic))
    if careful:
        try:
            check(text)
        except ValueError:
            return "nothing"
    if wide:
        large(topic)
    return text

@flow
def asked():
    return wait(name="approve", schema=bool)
"""


@pytest.fixture
def flows(project: Project) -> ModuleType:
    return project.load(FLOWS)


def done(handle: FlowHandle) -> str:
    handle.wait(60)
    return str(handle.exec_id)


def changes(diff: ExecutionDiff) -> dict[str, str]:
    return {call.key: call.change for call in diff.calls}


def test_equal_executions_have_no_difference(project: Project, flows: ModuleType) -> None:
    diff = project.client.executions.diff(done(flows.article.run("tea")), done(flows.article.run("tea")))

    assert diff.is_same
    assert changes(diff) == {"research": "same", "draft": "same"}
    assert (diff.inputs, diff.result, diff.code) == ({}, None, ())


def test_what_changed_is_shown_before_and_after(project: Project, flows: ModuleType) -> None:
    diff = project.client.executions.diff(done(flows.article.run("tea")), done(flows.article.run("wine")))

    research, draft = diff.calls
    assert (research.change, research.what) == ("changed", ("value", "inputs"))
    assert research.a is not None
    assert research.b is not None
    assert (research.a.value, research.b.value) == ("notes on tea", "notes on wine")
    assert draft.change == "changed"
    assert diff.inputs == {"topic": ("tea", "wine")}
    assert diff.result is not None
    assert [side.value for side in diff.result if side is not None] == ["NOTES ON TEA", "NOTES ON WINE"]


def test_added_and_removed_calls_stand_where_they_were_made(project: Project, flows: ModuleType) -> None:
    plain, careful = done(flows.article.run("tea", wide=True)), done(flows.article.run("tea", careful=True))

    diff = project.client.executions.diff(plain, careful)

    assert [(call.key, call.change) for call in diff.calls] == [
        ("research", "same"), ("draft", "same"), ("large", "removed"), ("check", "added"),
    ]  # fmt: skip


def test_a_failure_against_a_value_is_a_change(project: Project, flows: ModuleType) -> None:
    tea, wine = done(flows.article.run("tea", careful=True)), done(flows.article.run("wine", careful=True))

    check = project.client.executions.diff(tea, wine).calls[2]

    assert (check.what, check.a_error, check.b_error) == (("value", "inputs", "error"), None, "ValueError: not wine")


def test_a_large_value_is_shown_by_size_and_digest(project: Project, flows: ModuleType) -> None:
    diff = project.client.executions.diff(
        done(flows.article.run("tea", wide=True)), done(flows.article.run("wine", wide=True))
    )

    large = diff.calls[2]
    assert large.a is not None
    assert (large.a.value, large.a.bytes) == (None, 30_000)
    assert large.a.digest is not None
    assert large.a.digest.startswith("sha256:")


def test_answers_are_compared_too(project: Project, flows: ModuleType) -> None:
    answered = []
    for value in (True, False):
        handle = flows.asked.run()
        project.until_status(handle.exec_id, "waiting")
        project.client.executions.input(handle.exec_id, value=value)
        answered.append(done(handle))

    (approve,) = project.client.executions.diff(*answered).calls

    assert approve.a is not None
    assert approve.b is not None
    assert (approve.kind, approve.a.value, approve.b.value) == ("wait", True, False)


def test_a_replay_is_compared_with_its_original(project: Project, flows: ModuleType) -> None:
    original = done(flows.article.run("tea"))
    replay = done(flows.article.replay(original, overrides={"checkpoint.research": "my notes"}))

    diff = project.client.executions.diff(original, replay)

    assert changes(diff) == {"research": "changed", "draft": "changed"}
    assert diff.inputs == {}


def test_edited_files_of_source_executions_are_named(project: Project) -> None:
    for source in (FLOWS, FLOWS.replace("notes on", "a note on")):
        project.write(source + '\narticle.run("tea").wait()\n')
        assert project.start("flows.py").communicate(timeout=60)[1] == ""
    after, before = project.client.executions.list()

    diff = project.client.executions.diff(before.exec_id, after.exec_id)

    assert diff.code == ("code: flows.py",)


def test_one_that_is_not_there_is_refused(project: Project, flows: ModuleType) -> None:
    with pytest.raises(KitaruNotFoundError, match="there is no execution nothing"):
        project.client.executions.diff(done(flows.article.run("tea")), "nothing")
