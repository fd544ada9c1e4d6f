"""What a checkpoint changes in its arguments is an error, alike in the first run and after a crash."""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import BaseModel

from kitaru import KitaruChangedArgumentError, checkpoint, flow, testing
from kitaru.flows import Flow


class Opaque:
    """Has no canonical form."""


@dataclass
class State:
    steps: list[int] = field(default_factory=list)
    tool: Opaque | None = None


class Model(BaseModel):
    tags: dict[str, list[int]] = {}


class Agent:
    def __init__(self) -> None:
        self.client = Opaque()
        self.history: list[str] = []
        self.calls = 0
        self.connection: Opaque | None = None

    @functools.cached_property
    def limit(self) -> int:
        return 5

    @checkpoint
    def ask(self, question: str) -> str:
        self.history.append(question)
        return question.upper()

    @checkpoint
    def count(self) -> None:
        self.calls += 1

    @checkpoint
    async def ask_soon(self, question: str) -> str:
        await asyncio.sleep(0)
        self.history.append(question)
        return question.upper()

    @checkpoint
    def connect(self) -> int:
        self.connection = Opaque()
        return self.limit

    @checkpoint(ignore="self")
    def remember(self, question: str) -> None:
        self.history.append(question)

    @checkpoint
    async def fetch(self, page: int) -> int:
        await asyncio.sleep(0)
        return page

    async def collect(self, page: int) -> None:
        self.history.append(str(await self.fetch(page)))


@checkpoint
def push(items: Any, item: int) -> int:
    items.append(item)
    return item


@checkpoint
async def push_soon(items: list[int], item: int) -> None:
    items.append(item)


@checkpoint(timeout=30)
def push_in_time(items: list[int]) -> None:
    items.append(1)


@checkpoint(runtime="isolated")
def push_elsewhere(items: list[int]) -> int:
    items.append(1)
    return len(items)


@checkpoint(retries=3)
def push_and_fail(items: list[int]) -> None:
    items.append(1)
    raise OSError("not there")


@checkpoint
def tag_model(model: Model) -> None:
    model.tags["a"][0] += 1


@checkpoint
def step(state: State) -> None:
    state.steps.append(len(state.steps))


@checkpoint
def read(values: Any) -> int:
    return len(values)


@checkpoint(cache=True)
def push_cached(items: list[int]) -> int:
    items.append(1)
    return 1


@flow
def by_list() -> None:
    push([], 1)


@flow
def by_keyword() -> None:
    push(item=1, items=[])


@flow
def in_a_tuple() -> None:
    items: list[int] = []
    read_and_push((1, items))


@checkpoint
def read_and_push(pair: tuple[int, list[int]]) -> None:
    pair[1].append(1)


@flow
async def awaited() -> None:
    await push_soon([], 1)


@flow
async def beside_others() -> None:
    await asyncio.gather(push_soon([], 1), push_soon([], 2))


@flow
def submitted() -> None:
    push.submit([], 1).result()


@flow
def mapped() -> None:
    [future.result() for future in push.map([[], []], [1, 2])]


@flow
def in_time() -> None:
    push_in_time([])


@flow
def by_dataclass() -> None:
    step(State())


@flow
def by_dataclass_with_something_opaque() -> None:
    step(State(tool=Opaque()))


@flow
def by_model() -> None:
    tag_model(Model(tags={"a": [1]}))


@flow
def by_self() -> None:
    Agent().ask("who")


@flow
def by_a_number_of_self() -> None:
    Agent().count()


@flow
async def by_self_awaited() -> None:
    await Agent().ask_soon("who")


@flow
def by_list_of_opaque() -> None:
    push([Opaque()], 1)


CHANGING = {
    by_list: "items", by_keyword: "items", in_a_tuple: "pair", awaited: "items", beside_others: "items",
    submitted: "items", mapped: "items", in_time: "items", by_dataclass: "state (state.steps[0])",
    by_dataclass_with_something_opaque: "state (state.steps)", by_model: "model (model.tags.a[0])",
    by_self: "self (self.history)", by_a_number_of_self: "self (self.calls)", by_self_awaited: "self (self.history)",
    by_list_of_opaque: "items",
}  # fmt: skip


@pytest.mark.parametrize(("changed", "where"), CHANGING.items(), ids=[each.name for each in CHANGING])
def test_a_change_is_an_error_that_names_the_argument(changed: Flow[..., Any], where: str) -> None:
    for crash in (None, 2, 3):
        outcome = testing.run(changed, crash_at=crash)
        assert isinstance(outcome.error, KitaruChangedArgumentError), outcome
        assert f"changed its argument {where}" in str(outcome.error)


def test_the_outcome_is_recorded_and_the_call_not_made_again() -> None:
    outcome = testing.run(by_list, crash_at=3)

    assert outcome.calls["push"] == 1
    assert [entry.value for entry in outcome.journal if entry.kind == "checkpoint"] == [1]


def test_a_flow_that_goes_on_nevertheless_says_so_in_a_warning() -> None:
    @flow
    def swallowing() -> int:
        items: list[int] = []
        try:
            push(items, 1)
        except Exception:
            pass
        return 7

    outcome = testing.run(swallowing, crash_at=3)

    assert outcome.result == 7
    assert "push changed its argument items" in outcome.warnings[0]


def test_a_try_that_failed_and_changed_something_is_the_last() -> None:
    @flow
    def failing() -> None:
        push_and_fail([])

    outcome = testing.run(failing)

    assert outcome.calls["push_and_fail"] == 1
    assert isinstance(outcome.error, KitaruChangedArgumentError)
    assert isinstance(outcome.error.__cause__, OSError)


def test_a_changed_call_is_nothing_for_the_cache() -> None:
    @flow
    def twice() -> list[str]:
        said = []
        for _ in range(2):
            try:
                push_cached([])
            except KitaruChangedArgumentError as error:
                said.append(type(error).__name__)
        return said

    outcome = testing.run(twice)

    assert outcome.result == ["KitaruChangedArgumentError"] * 2
    assert outcome.calls["push_cached"] == 2


@flow
def isolated() -> list[int]:
    items: list[int] = []
    push_elsewhere(items)
    return items


@flow
def lazily_connected() -> int:
    agent = Agent()
    return agent.connect() + agent.connect()


@dataclass
class Text:
    words: list[str]

    @functools.cached_property
    def length(self) -> int:
        return len(self.words)


@checkpoint
def measure(text: Text) -> int:
    return text.length


@flow
def computed() -> int:
    return measure(Text(["a", "b"]))


@flow
def told_to_ignore() -> None:
    Agent().remember("who")


@flow
async def others_at_work() -> list[str]:
    agent = Agent()
    await asyncio.gather(*(agent.collect(page) for page in range(4)))
    return agent.history


@flow
def only_read() -> list[int]:
    values: list[Any] = [[1], {"a": 1}, {1, 2}, State([1]), Model(tags={"a": []}).tags, (1, [2])]
    return [read(value) for value in values if not isinstance(value, State)]


@flow
def changed_by_the_flow_itself() -> list[int]:
    items: list[int] = []
    for item in range(3):
        read(items)
        items.append(item)
    return items


@pytest.mark.parametrize(
    "well",
    [isolated, lazily_connected, computed, told_to_ignore, others_at_work, only_read, changed_by_the_flow_itself],
    ids=lambda each: each.name,
)  # fmt: skip
def test_what_changes_nothing_goes_on(well: Flow[..., Any]) -> None:
    outcome = testing.run(well, crash_at=2)

    assert outcome.status == "completed"
    assert outcome.warnings == ()


def test_outside_of_a_flow_it_is_the_plain_function() -> None:
    items: list[int] = []

    assert push(items, 1) == 1
    assert items == [1]
