"""Rows of docs/coming-from.md: checkpoints."""

from __future__ import annotations

import os

import pytest
from rows import row
from tests.coming_from.conftest import Code

import kitaru
from kitaru import KitaruUsageError


@row("@checkpoint", "a checkpoint's value", "@checkpoint(type=)", '@checkpoint(runtime="inline")')
def test_a_checkpoint_gives_plain_values(code: Code) -> None:
    made = code.load("""
@checkpoint(type="tool_call", runtime="inline")
def search(topic):
    return [topic, "more"]

@flow
def find(topic: str):
    found = search(topic)
    return f"{found[0].upper()} {len(found)}"
""")
    handle = made.find.run("tea")

    assert handle.wait(timeout=30) == "TEA 2"
    assert made.search("tea") == ["tea", "more"]
    (call,) = code.client.executions.get(handle.exec_id).checkpoints
    assert call.checkpoint_type == "tool_call"


@row("@checkpoint(retries=)", "@checkpoint(retries=-1)", '@checkpoint(runtime="other")')
def test_a_checkpoint_is_tried_again_and_its_tries_are_recorded(code: Code) -> None:
    made = code.load("""
tries = []

@checkpoint(retries=2)
def flaky():
    tries.append(1)
    if len(tries) < 3:
        raise OSError("again")
    return len(tries)

@flow
def work():
    return flaky()
""")
    handle = made.work.run()

    assert handle.wait(timeout=30) == 3
    assert code.client.executions.get(handle.exec_id).checkpoints[0].attempts == 3
    for wrong in ({"retries": -1}, {"runtime": "kubernetes"}):
        with pytest.raises(KitaruUsageError):
            kitaru.checkpoint(**wrong)(print)


@row("@checkpoint(cache=)")
def test_results_of_other_executions_are_reused_when_asked_for(code: Code) -> None:
    made = code.load("""
executed = []

@checkpoint(cache=True)
def kept(x):
    executed.append("kept")
    return x

@checkpoint
def fresh(x):
    executed.append("fresh")
    return x

@flow
def work():
    return kept(1) + fresh(1)
""")

    assert [made.work.run().wait(timeout=30) for _ in range(2)] == [2, 2]
    assert made.executed == ["kept", "fresh", "fresh"]


@row('@checkpoint(runtime="isolated")')
def test_an_isolated_checkpoint_has_a_process_of_its_own(code: Code) -> None:
    made = code.load("""
import os

@checkpoint(runtime="isolated")
def process():
    return os.getpid()

@flow
def work():
    return process()
""")

    assert made.work.run().wait(timeout=60) != os.getpid()


@row("call(id=)", "call(after=)", ".submit(...)", ".submit(...).result()", ".submit(...).load()")
@row("a future as an argument", ".submit(...).artifacts()")
def test_calls_have_ids_order_and_futures(code: Code) -> None:
    made = code.load("""
order = []

@checkpoint
def step(name):
    order.append(name)
    return name

@flow
def work():
    first = step.submit("first", id="one")
    second = step.submit("second", after=first)
    third = step.submit(second, after=[first, second])
    return [first.load(), second.result(), third.result()]
""")
    handle = made.work.run()

    assert handle.wait(timeout=30) == ["first", "second", "second"]
    assert made.order == ["first", "second", "second"]
    keys = [call.call_id for call in code.client.executions.get(handle.exec_id).checkpoints]
    assert keys[0] == "submit[0]/one"
    (artifact,) = code.client.artifacts.list(handle.exec_id, producing_call="submit[0]/one")
    assert artifact.load() == "first"


@row(".map(...)", ".product(...)")
def test_calls_fan_out(code: Code) -> None:
    made = code.load("""
@checkpoint
def add(a, b):
    return a + b

@flow
def work():
    side = [future.result() for future in add.map([1, 2], [10, 20])]
    return side, [future.load() for future in add.product([1, 2], [10, 20], max_concurrency=2)]
""")

    assert made.work.run().wait(timeout=30) == ([11, 22], [11, 21, 12, 22])


@row("a checkpoint in a checkpoint")
def test_a_checkpoint_may_call_another(code: Code) -> None:
    made = code.load("""
@checkpoint
def inner(x):
    return x + 1

@checkpoint
def outer(x):
    return inner(x) * 10

@flow
def work():
    return outer(1)
""")

    assert made.work.run().wait(timeout=30) == 20
