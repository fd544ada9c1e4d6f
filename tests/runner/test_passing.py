"""Exceptions by which agent frameworks steer themselves pass through checkpoints: neither tried again nor failures."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from attempts import TestExecution

from kitaru import KitaruUsageError, checkpoint, wait
from kitaru_runner.engine.body.body import run_body

ran: Counter[str] = Counter()


class GraphBubbleUp(Exception):
    pass


class GraphInterrupt(GraphBubbleUp):
    pass


class ModelRetry(Exception):
    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)


class Postponed(Exception):
    """Of this project's own."""


@pytest.fixture(autouse=True)
def frameworks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The classes, where the frameworks have them."""
    for kind, home in ((GraphBubbleUp, "langgraph.errors"), (ModelRetry, "pydantic_ai.exceptions")):
        module = ModuleType(home)
        setattr(module, kind.__name__, kind)
        monkeypatch.setitem(sys.modules, home, module)
        monkeypatch.setattr(kind, "__module__", home)
    ran.clear()


class Graph:
    """As much of a graph as interrupts: it asks, and gives what it is resumed with. Its ids are new in each run."""

    def __init__(self) -> None:
        self.answers: dict[int, str] = {}

    def interrupt(self) -> str:
        ran["interrupt"] += 1
        if id(self) not in self.answers:
            raise GraphInterrupt(id(self))
        return self.answers[id(self)]


graph = Graph()


def begin_anew() -> None:
    """A process of its own has another graph."""
    global graph
    graph = Graph()


@checkpoint(retries=2)
def ask() -> str:
    return graph.interrupt()


@checkpoint(retries=2)
async def ask_on_loop() -> str:
    return graph.interrupt()


@checkpoint
def step(name: str) -> str:
    ran[name] += 1
    return name


def called() -> Any:
    return ask()


def submitted() -> Any:
    return ask.submit().result()


def after_another() -> Any:
    return step.submit(ask.submit()).result()


async def awaited() -> Any:
    return await ask_on_loop()


async def gathered() -> Any:
    return (await asyncio.gather(ask_on_loop()))[0]


async def submitted_on_a_loop() -> Any:
    return await ask_on_loop.submit()


def interrupted(node: Callable[[], Any]) -> Callable[[], Any]:
    """A flow whose graph interrupts, asks somebody, and is resumed by the interrupt's id."""

    def body() -> list[str]:
        begin_anew()
        try:
            node()
        except GraphInterrupt as error:
            answer = wait(name="approve", schema=str)
            graph.answers[error.args[0]] = answer
        return [node(), step("last")]

    async def body_on_loop() -> list[str]:
        begin_anew()
        try:
            await node()
        except GraphInterrupt as error:
            answer = await wait(name="approve", schema=str)  # type: ignore[misc]  # on a loop it is awaited
            graph.answers[error.args[0]] = answer
        return [await node(), await step.submit("last")]

    return body_on_loop if asyncio.iscoroutinefunction(node) else body


NODES = [called, submitted, after_another, awaited, gathered, submitted_on_a_loop]


@pytest.mark.parametrize("node", NODES)
def test_an_interrupt_passes_at_once_and_its_answer_comes_back(
    execution: TestExecution, node: Callable[[], Any]
) -> None:
    body = interrupted(node)

    execution.attempt(body)
    assert (execution.status, ran["interrupt"]) == ("waiting", 1)
    execution.answer("approve", "yes")
    execution.attempt(body)

    assert execution.result == ["yes", "last"]
    assert {call.status for call in execution.record.checkpoints} == {"completed"}


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("writes", range(1, 5))
def test_cut_short_anywhere_nobody_is_asked_again(
    execution: TestExecution, node: Callable[[], Any], writes: int
) -> None:
    body = interrupted(node)
    execution.attempt(body)
    execution.answer("approve", "yes")

    execution.attempt(body, writes=writes)
    if execution.status == "running":
        execution.attempt(body)

    assert execution.result == ["yes", "last"]
    assert [row.key for row in execution.rows if row.kind == "w"] == ["approve"]


def test_what_passes_is_nothing_that_is_under_way(execution: TestExecution) -> None:
    seen = []

    def body() -> None:
        begin_anew()
        with pytest.raises(GraphInterrupt):
            ask()
        seen.append(step("after"))

    engine, attempt, _ = execution.begin()
    run_body(engine, body, {})

    assert seen == ["after"]
    assert attempt.journal.running_keys() == []
    assert execution.keys == ["step"]


@checkpoint(retries=5)
def tool(number: int) -> int:
    ran["tool"] += 1
    if number < 2:
        raise ModelRetry(f"{number} is too little")
    return number


@checkpoint(retries=5)
async def tool_on_loop(number: int) -> int:
    return tool.function(number)


def asking_a_model() -> list[Any]:
    said, number = [], 0
    while True:
        try:
            return [*said, tool(number)]
        except ModelRetry as error:
            said.append(error.message)
            number = int(step(str(number + 1)))


async def asking_a_model_on_a_loop() -> list[Any]:
    said, number = [], 0
    while True:
        try:
            return [*said, *await asyncio.gather(tool_on_loop(number))]
        except ModelRetry as error:
            said.append(error.message)
            number = int(await step.submit(str(number + 1)))


@pytest.mark.parametrize("body", [asking_a_model, asking_a_model_on_a_loop])
@pytest.mark.parametrize("writes", range(1, 6))
def test_what_asks_a_model_again_is_an_outcome_and_no_failure(
    execution: TestExecution, body: Callable[[], Any], writes: int
) -> None:
    execution.attempt(body, writes=writes)
    execution.attempt(body)

    assert execution.result == ["0 is too little", "1 is too little", 2]
    assert ran["tool"] <= 4  # one of them may have been cut short before it was recorded
    statuses = [call.status for call in execution.record.checkpoints if "tool" in call.key]
    assert statuses == ["passed", "passed", "completed"]


def test_one_that_ends_the_flow_executes_again_in_a_retry(execution: TestExecution) -> None:
    execution.attempt(lambda: tool(1))
    assert execution.status == "failed"

    execution.retry()
    execution.attempt(lambda: tool(1))

    assert ran["tool"] == 2


@pytest.mark.parametrize("grouped", [False, True])
def test_a_checkpoint_says_what_else_passes(execution: TestExecution, grouped: bool) -> None:
    @checkpoint(retries=3, passes=Postponed)
    def book() -> None:
        ran["book"] += 1
        raise ExceptionGroup("both", [Postponed("monday"), ModelRetry("no")]) if grouped else Postponed("monday")

    def body() -> str:
        try:
            book()
        except* (Postponed, ModelRetry) as errors:
            said = str(errors.exceptions[0])
        return said

    execution.attempt(body, writes=1)
    execution.attempt(body)

    assert execution.result == "monday"
    assert ran["book"] == 1


def test_a_group_with_a_failure_in_it_is_a_failure(execution: TestExecution) -> None:
    @checkpoint(retries=1)
    def both() -> None:
        ran["both"] += 1
        raise ExceptionGroup("both", [ModelRetry("no"), ConnectionError("down")])

    execution.attempt(both)

    assert (execution.status, ran["both"]) == ("failed", 2)


def test_what_passes_is_given_as_exception_types() -> None:
    with pytest.raises(KitaruUsageError, match=r"passes='Postponed' names no exceptions"):
        checkpoint(passes="Postponed")(lambda: None)  # type: ignore[call-overload]  # that it is none
