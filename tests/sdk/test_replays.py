"""A replay is a new execution that reuses what another one recorded, up to a call."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from replays import completed, failed, ran, record, reused

from kitaru_registry.errors import (
    KitaruConflictError,
    KitaruNotFoundError,
    KitaruStateError,
    KitaruUsageError,
    KitaruWaitValidationError,
)

if TYPE_CHECKING:
    from tests.sdk.conftest import Project


FLOWS = """
from dataclasses import dataclass

def ran(what):
    with open("ran", "a") as file:
        file.write(what + " ")

@dataclass
class Text:
    words: str
    length: int

@checkpoint
def research(topic):
    ran("research")
    return f"notes on {topic}"

@checkpoint
def draft(notes):
    ran("draft")
    if Path("broken").exists():
        raise ConnectionError("no model")
    return Text(notes, len(notes))

@checkpoint
def polish(text):
    ran("polish")
    return text.words.upper()

@flow
def article(topic: str, sign: bool = False):
    notes = research(topic)
    polished = polish(draft(notes))
    return polished + " (signed)" if sign else polished

@flow
def review(topic: str):
    text = draft(research(topic))
    if not wait(name="approve", question="Publish?", schema=bool):
        return "Rejected"
    return polish(text)

@checkpoint(replay="never")
def publish(text):
    ran("publish")
    return f"{len(text)} words"

@flow
def published(topic: str):
    return publish(research(topic))

@flow
def many(count: int):
    return [future.result() for future in research.map([str(number) for number in range(count)])]
"""


@pytest.fixture
def flows(project: Project) -> ModuleType:
    return project.load(FLOWS)


def test_what_was_recorded_before_the_call_is_reused(project: Project, flows: ModuleType) -> None:
    original = completed(flows.article.run("agents"))
    ran(project)

    handle = flows.article.replay(original, from_="draft")

    assert handle.wait(60) == "NOTES ON AGENTS"
    assert ran(project) == ["draft", "polish"]
    found = record(project, handle)
    assert (found.original_exec_id, found.kind) == (original, "source")
    assert found.exec_id != original
    assert reused(found) == {"research": True, "draft": False, "polish": False}
    assert found.replay_of is not None
    assert (found.replay_of.from_, found.replay_of.reused) == ("draft", 1)


def test_a_guarded_outcome_behind_the_beginning_is_one_of_the_replay_s_calls(
    project: Project, flows: ModuleType
) -> None:
    original = completed(flows.published.run("tea"))
    ran(project)

    handle = flows.published.replay(original, from_="research")

    assert handle.wait(60) == "12 words"
    assert ran(project) == ["research"]
    assert reused(record(project, handle)) == {"research": False, "publish": True}


def test_the_original_stays_as_it_was(project: Project, flows: ModuleType) -> None:
    original = completed(flows.article.run("agents"))
    before = project.client.executions.get(original)

    completed(flows.article.replay(original, from_="research"))

    assert project.client.executions.get(original) == before


def test_new_inputs_go_over_the_recorded_ones(project: Project, flows: ModuleType) -> None:
    original = completed(flows.article.run("agents"))

    handle = flows.article.replay(original, from_="research", sign=True)

    assert handle.wait(60) == "NOTES ON AGENTS (signed)"
    assert record(project, handle).inputs == {"topic": "agents", "sign": True}


def test_an_input_that_the_flow_does_not_have_is_refused(project: Project, flows: ModuleType) -> None:
    original = completed(flows.article.run("agents"))

    with pytest.raises(KitaruUsageError, match="sing"):
        flows.article.replay(original, from_="research", sing=True)
    assert len(project.client.executions.list()) == 1


def test_from_failed_begins_at_the_first_failure_that_reached_the_top(project: Project, flows: ModuleType) -> None:
    project.open_gate("broken")
    original = failed(flows.article.run("agents"))
    (project.root / "broken").unlink()
    ran(project)

    assert flows.article.replay(original, from_="failed").wait(60) == "NOTES ON AGENTS"
    assert ran(project) == ["draft", "polish"]


# Overrides


def test_an_overridden_outcome_is_replaced_and_what_follows_executes(project: Project, flows: ModuleType) -> None:
    original = completed(flows.article.run("agents"))
    ran(project)

    handle = flows.article.replay(original, overrides={"checkpoint.research": "other notes"})

    assert handle.wait(60) == "OTHER NOTES"
    assert ran(project) == ["draft", "polish"]
    assert reused(record(project, handle)) == {"research": True, "draft": False, "polish": False}


def test_an_override_behind_the_beginning_is_used_when_the_flow_comes_there(
    project: Project, flows: ModuleType
) -> None:
    original = completed(flows.article.run("agents"))
    ran(project)

    handle = flows.article.replay(original, from_="research", topic="wine", overrides={"checkpoint.polish": "given"})

    assert handle.wait(60) == "given"
    assert ran(project) == ["research", "draft"]


def test_plain_fields_become_what_was_recorded_there(project: Project, flows: ModuleType) -> None:
    original = completed(flows.article.run("agents"))

    handle = flows.article.replay(original, overrides={"checkpoint.draft": {"words": "mine", "length": 4}})

    assert handle.wait(60) == "MINE"


def test_an_overridden_answer_is_checked_and_given(project: Project, flows: ModuleType) -> None:
    handle = flows.review.run("agents")
    project.until_status(handle.exec_id, "waiting")
    project.client.executions.input(handle.exec_id, value=True)
    original = completed(handle)
    ran(project)

    with pytest.raises(KitaruWaitValidationError, match=r"^wait\.approve does not fit: expected boolean") as told:
        flows.review.replay(original, overrides={"wait.approve": "perhaps"})
    assert told.value.hint == "its schema: boolean"
    again = flows.review.replay(original, overrides={"wait.approve": False})

    assert again.wait(60) == "Rejected"
    assert ran(project) == []
    (answer,) = (project.client.waits.get(again.exec_id, "approve"),)
    assert (answer.answer, answer.door, answer.answered_by) == (False, "replay", "ada@analytical")


def test_a_wait_that_stands_open_can_be_answered_by_an_override(project: Project, flows: ModuleType) -> None:
    handle = flows.review.run("agents")
    project.until_status(handle.exec_id, "waiting")

    assert flows.review.replay(handle.exec_id, overrides={"wait.approve": True}).wait(60) == "NOTES ON AGENTS"

    handle.cancel()


def test_recorded_answers_before_the_call_are_reused(project: Project, flows: ModuleType) -> None:
    handle = flows.review.run("agents")
    project.until_status(handle.exec_id, "waiting")
    project.client.executions.input(handle.exec_id, value=True)
    original = completed(handle)

    again = flows.review.replay(original, from_="polish")

    assert again.wait(60) == "NOTES ON AGENTS"
    answer = project.client.waits.get(again.exec_id, "approve")
    assert (answer.status, answer.answer, answer.answered_by) == ("answered", True, "ada@analytical")


# Bad input: one message, and nothing is made


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"from_": "drafd"}, KitaruNotFoundError, "has no call drafd; it has: research, draft, polish"),
    ({"overrides": {"checkpoint.reserch": 1}}, KitaruNotFoundError, "has no checkpoint reserch; it has: research"),
    ({"overrides": {"wait.approve": True}}, KitaruNotFoundError, "has no wait approve; it has: none"),
    ({"overrides": {"research": 1}}, KitaruUsageError, "names neither a checkpoint nor a wait"),
    ({"sign": True}, KitaruUsageError, "new inputs change nothing"),
]


@pytest.mark.parametrize(("given", "error", "said"), REFUSED)
def test_what_is_not_there_is_refused_by_name(
    project: Project, flows: ModuleType, given: dict[str, Any], error: type[Exception], said: str
) -> None:
    original = completed(flows.article.run("agents"))

    with pytest.raises(error) as caught:
        flows.article.replay(original, **given)

    assert said in str(caught.value)
    assert len(project.client.executions.list()) == 1


def test_a_name_of_several_calls_is_refused_with_their_keys(project: Project, flows: ModuleType) -> None:
    original = completed(flows.many.run(3))
    ran(project)

    with pytest.raises(KitaruConflictError) as caught:
        flows.many.replay(original, from_="research")

    assert "has 3 calls of research: " in str(caught.value)
    assert "map[1]/research" in str(caught.value)
    last = project.client.executions.get(original).checkpoints[-1].key
    assert flows.many.replay(original, from_=last).wait(60) == ["notes on 0", "notes on 1", "notes on 2"]
    assert ran(project) == ["research"]


def test_a_flow_of_another_name_is_refused(project: Project, flows: ModuleType) -> None:
    original = completed(flows.article.run("agents"))

    with pytest.raises(KitaruConflictError, match="is one of article, and this is the flow review"):
        flows.review.replay(original, from_="draft")


# Of the code that recorded, in a process of its own


def test_a_source_execution_is_replayed_on_its_files(project: Project, flows: ModuleType) -> None:
    original = completed(flows.article.run("agents"))
    ran(project)

    handle = project.client.executions.replay(original, from_="polish")

    assert handle.wait(60) == "NOTES ON AGENTS"
    assert ran(project) == ["polish"]
    assert record(project, handle).source == project.client.executions.get(original).source


def test_new_inputs_have_the_types_of_the_parameters_there(project: Project) -> None:
    flows = project.load(TYPED)
    original = completed(flows.at.run(day=flows.date(2026, 1, 31)))

    handle = project.client.executions.replay(original, from_="stamp", day="2027-02-28")

    assert handle.wait(60) == "2027"


def test_new_inputs_that_do_not_fit_there_fail_the_replay(project: Project) -> None:
    flows = project.load(TYPED)
    original = completed(flows.at.run(day=flows.date(2026, 1, 31)))

    found = project.client.executions.replay(original, from_="stamp", day="soon").until_settled(60)

    assert found.error is not None
    assert (found.status, found.error.type) == ("failed", "KitaruUsageError")


TYPED = """
from datetime import date

@checkpoint
def stamp(day: date) -> str:
    return str(day.year)

@flow
def at(day: date) -> str:
    return stamp(day)
"""


def test_edited_files_are_no_replay_of_what_recorded(project: Project, flows: ModuleType) -> None:
    original = completed(flows.article.run("agents"))
    project.write(FLOWS.replace("notes on", "a note on"))

    with pytest.raises(KitaruConflictError, match=r"has changed since it began: flows\.py"):
        project.client.executions.replay(original, from_="draft")
    assert len(project.client.executions.list()) == 1


def test_an_idempotency_key_gives_one_replay(project: Project, flows: ModuleType) -> None:
    original = completed(flows.article.run("agents"))

    first = project.client.executions.replay(original, from_="polish", idempotency_key="k")
    second = project.client.executions.replay(original, from_="polish", idempotency_key="k")

    assert first.exec_id == second.exec_id
    assert (first.created, second.created) == (True, False)
    with pytest.raises(KitaruConflictError, match="was used for article with other inputs"):
        project.client.executions.replay(original, from_="draft", idempotency_key="k")
    first.wait(60)


def test_something_has_to_be_said_of_what_executes_again(project: Project, flows: ModuleType) -> None:
    original = completed(flows.article.run("agents"))

    with pytest.raises(KitaruUsageError, match="from which call"):
        project.client.executions.replay(original)


def test_replays_are_found_by_their_original(project: Project, flows: ModuleType) -> None:
    original = completed(flows.article.run("agents"))
    made = completed(flows.article.replay(original, from_="polish"))
    completed(flows.article.run("agents"))

    assert [found.exec_id for found in project.client.executions.list(replay_of=original)] == [made]


def test_the_plan_says_what_executes_and_makes_nothing(project: Project, flows: ModuleType) -> None:
    original = completed(flows.article.run("agents"))

    plan = project.client.executions.plan_replay(original, from_="draft", sign=True)

    assert [(call.key, call.does) for call in plan.calls] == [
        ("research", "reused"), ("draft", "executes"), ("polish", "executes"),
    ]  # fmt: skip
    assert (plan.from_, plan.inputs) == ("draft", {"topic": "agents", "sign": True})
    assert len(project.client.executions.list()) == 1


def test_a_call_with_other_arguments_is_a_warning_that_the_record_shows(project: Project, flows: ModuleType) -> None:
    original = completed(flows.article.run("agents"))

    handle = flows.article.replay(original, from_="draft", topic="tea")
    handle.wait(60)

    said = "research was recorded with other arguments than it is called with now: topic (a text of 3 characters)"
    assert record(project, handle).warnings == (said,)


def test_an_override_that_lacks_a_dataclass_s_field_is_refused(project: Project, flows: ModuleType) -> None:
    original = completed(flows.article.run("agents"))

    with pytest.raises(KitaruUsageError, match=r"checkpoint.draft has the fields words, and draft gave a Text: length"):
        project.client.executions.replay(original, overrides={"checkpoint.draft": {"words": "mine"}})


def test_while_its_process_starts_nobody_is_told_to_start_it(project: Project, flows: ModuleType) -> None:
    original = completed(flows.article.run("agents"))

    handle = project.client.executions.replay(original, from_="polish")

    assert record(project, handle).status_reason is None
    handle.wait(60)


@pytest.mark.parametrize(
    ("edits", "why"), [("def article(:", "SyntaxError"), ("", "has no flow article"), (None, "there is no file")]
)
def test_edits_that_cannot_be_loaded_are_told_to_who_waits(
    project: Project, flows: ModuleType, edits: str | None, why: str
) -> None:
    original = completed(flows.article.run("agents"))
    file = project.root / "flows.py"
    file.rename(project.root / "other.py") if edits is None else file.write_text(edits)

    handle = project.client.executions.replay(original, from_="polish", with_edits=True)

    with pytest.raises(KitaruStateError, match=f"has stopped: .*{why}"):
        handle.wait(60)
    handle.cancel()


def test_a_record_can_be_replayed_and_retried(project: Project, flows: ModuleType) -> None:
    (project.root / "broken").touch()
    found = project.client.executions.get(failed(flows.article.run("agents")))
    (project.root / "broken").unlink()

    assert found.replay(from_="failed").wait(60) == "NOTES ON AGENTS"
    assert found.retry().wait(60) == "NOTES ON AGENTS"
    assert found.refresh().replay_of is None
