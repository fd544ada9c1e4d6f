"""What an artifact was made from is known by what was passed to the call that made it, in every attempt."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import Any

import pytest
from attempts import Executions, TestExecution

from kitaru import checkpoint, load, save, wait
from kitaru_registry.executions import lineage
from kitaru_registry.models import LineageLink


class Colour(Enum):
    RED = "red"


@checkpoint
def research(topic: str) -> dict[str, str]:
    return {"text": f"a long text about {topic}"}


@checkpoint
def draft(text: object) -> str:
    return f"a draft that was made of {text}"


@checkpoint
def merge(texts: object) -> str:
    save("merged", "beside the outcome", type="context")
    return f"the merged text of {texts}"


def parents(execution: TestExecution) -> dict[str, list[str]]:
    """Key to parents, of every call that has some."""
    import json

    return {row.key: json.loads(row.parents) for row in execution.rows if row.parents}


def ends(links: tuple[LineageLink, ...]) -> list[Any]:
    """A tree as nested lists of places."""
    return [[link.ref[36:], *ends(link.links)] for link in links]


def trace(execution: TestExecution, place: str, *, direction: str = "up") -> list[Any]:
    found = lineage.trace(execution.database, execution.exec_id + place, direction=direction)
    return ends(found.links)


def test_a_value_its_members_and_lists_of_values_are_known(execution: TestExecution) -> None:
    def body() -> str:
        found = research("tea")
        return merge([draft(found["text"]), draft(found)])

    execution.attempt(body)

    assert parents(execution) == {"draft": ["research"], "draft#2": ["research"], "merge": ["draft", "draft#2"]}


@pytest.mark.parametrize("writes", range(4))
def test_parents_are_the_same_after_a_resume(execution: TestExecution, writes: int) -> None:
    def body() -> str:
        found = research("tea")
        return merge(draft(found["text"]))

    execution.attempt(body, writes=writes)
    execution.attempt(body)

    assert parents(execution) == {"draft": ["research"], "merge": ["draft"]}


def test_futures_and_the_results_of_a_map_are_known(execution: TestExecution) -> None:
    def body() -> str:
        first = research.submit("tea")
        drafts = draft.map(["one text that is long", "another text that is long"])
        return merge([draft(first), *(future.result() for future in drafts)])

    execution.attempt(body)

    assert parents(execution)["draft"] == ["submit[0]/research"]
    assert parents(execution)["merge"] == ["draft", "map[0]/draft", "map[1]/draft"]


def test_asynchronous_calls_are_known(execution: TestExecution) -> None:
    @checkpoint
    async def fetch(topic: object) -> str:
        return f"a long text about {topic}"

    async def body() -> str:
        both = await asyncio.gather(fetch("tea"), fetch("milk"))
        return await fetch(both)

    execution.attempt(body)

    assert parents(execution) == {"fetch": ["task[0]/fetch", "task[1]/fetch"]}


def test_an_answer_is_known(execution: TestExecution) -> None:
    def body() -> str:
        return draft(wait(name="remarks", schema=str))

    execution.attempt(body)
    execution.answer("remarks", "please be shorter than that")
    execution.attempt(body)

    assert parents(execution) == {"draft": ["remarks"]}
    assert trace(execution, "/draft") == [["/remarks"]]


def test_a_long_answer_is_an_artifact_too(execution: TestExecution) -> None:
    execution.attempt(lambda: draft(wait(name="remarks", schema=str)))
    execution.answer("remarks", "long " * 10_000)
    execution.attempt(lambda: draft(wait(name="remarks", schema=str)))

    assert trace(execution, "/draft") == [["/remarks"]]


@pytest.mark.parametrize("value", [True, 7, "short", Colour.RED, (), frozenset(), None, int, len])
def test_a_value_that_others_share_says_nothing(execution: TestExecution, value: object) -> None:
    @checkpoint
    def give() -> object:
        return value

    execution.attempt(lambda: draft(give()))

    assert parents(execution) == {}


def test_what_a_checkpoint_saved_was_made_from_what_it_got(execution: TestExecution) -> None:
    def body() -> None:
        merged = merge(draft("a text that is long enough"))
        save("final", merged)

    execution.attempt(body)

    assert trace(execution, "/merge:merged") == [["/draft"]]
    assert trace(execution, "/save:final") == [["/merge", ["/draft"]]]
    assert trace(execution, "/draft", direction="down") == [["/merge", ["/save:final"]], ["/merge:merged"]]


def test_what_came_twice_is_followed_once(execution: TestExecution) -> None:
    def body() -> None:
        found = research("tea")
        merge([draft(found), draft(found["text"])])

    execution.attempt(body)

    found = lineage.trace(execution.database, f"{execution.exec_id}/merge")
    assert [[link.is_repeated for link in one.links] for one in found.links] == [[False], [True]]


@pytest.mark.parametrize("inside", [False, True])
def test_lineage_crosses_executions_by_load(executions: Executions, inside: bool) -> None:
    first, second = executions.new(), executions.new()
    first.attempt(lambda: draft(research("tea")))

    @checkpoint
    def rework(exec_id: str) -> str:
        return f"reworked: {load(exec_id, 'draft')}"

    second.attempt(lambda: rework(first.exec_id) if inside else merge(load(first.exec_id, "draft")))

    made = "/rework" if inside else "/merge"
    up = lineage.trace(second.database, second.exec_id + made)
    assert [link.ref for link in up.links] == [f"{first.exec_id}/draft"]
    assert ends(up.links) == [["/draft", ["/research"]]]
    down = lineage.trace(first.database, f"{first.exec_id}/research", direction="down")
    assert f"{second.exec_id}{made}" in [link.ref for link in down.links[0].links]


def test_a_result_is_the_output_of_the_same_bytes_and_others_of_them_are_named(executions: Executions) -> None:
    first, second = executions.new(), executions.new(flow="other")
    for execution in (first, second):
        execution.attempt(lambda: draft(research("tea")))

    found = lineage.trace(first.database, first.exec_id)

    assert ends(found.links) == [["/draft", ["/research"]]]
    assert found.links[0].relation == "same bytes"
    assert {(a.flow, a.kind) for a in found.same_bytes} == {
        ("flow", "step_output"), ("other", "step_output"), ("other", "result")
    }  # fmt: skip


def test_a_long_chain_ends_somewhere(execution: TestExecution) -> None:
    @checkpoint
    def again(text: str) -> str:
        return text + " again"

    def chain() -> str:
        text = "the text at the beginning of it"
        for _ in range(150):
            text = again(text)
        return text

    execution.attempt(chain)

    assert str(trace(execution, "/again#150")).count("again") == 100


def test_tasks_within_a_checkpoint_save_for_it(execution: TestExecution) -> None:
    @checkpoint
    async def many() -> int:
        async def one(number: int) -> None:
            save("part", number)

        await asyncio.gather(one(1), one(2))
        return 2

    async def body() -> Any:
        await many()
        return [load(execution.exec_id, "part", index=index) for index in (0, -1)]

    execution.attempt(body)

    assert execution.result == [1, 2]
