"""Rows of docs/coming-from.md: flows."""

from __future__ import annotations

import asyncio

import pytest
from rows import row
from tests.coming_from.conftest import Code

import kitaru
from kitaru import KitaruStateError, KitaruUsageError, KitaruUserCodeError

SHOUT = """
@checkpoint
def draft(topic):
    return f"About {topic}"

@flow
def shout(topic: str):
    return draft(topic).upper()
"""


@row("@flow", "my_flow.run(...)", "FlowHandle.exec_id", "FlowHandle.status", "FlowHandle.wait()", "FlowHandle.get()")
def test_a_flow_runs_and_gives_its_own_return_value(code: Code) -> None:
    handle = code.load(SHOUT).shout.run("agents")

    assert handle.wait(timeout=30) == handle.get() == "ABOUT AGENTS"
    assert handle.status == "completed"
    assert code.client.executions.get(handle.exec_id).flow_name == "shout"


@row("my_flow(...)")
def test_a_flow_that_is_called_directly_names_run(code: Code) -> None:
    with pytest.raises(KitaruUsageError) as raised:
        code.load(SHOUT).shout("agents")

    assert ".run(" in str(raised.value.hint)


@row("@flow(cache=, retries=)", "my_flow.run(cache=, retries=)")
def test_a_flow_is_retried_and_reuses_what_other_executions_made(code: Code) -> None:
    made = code.load("""
tries, executed = [], []

@checkpoint
def count(x):
    executed.append(x)
    return x

@flow(retries=1, cache=True)
def counts(x: int):
    tries.append(x)
    if len(tries) == 1:
        raise OSError("gone")
    return count(x)
""")

    assert made.counts.run(3).wait(timeout=30) == 3
    assert made.counts.run(3, retries=0).wait(timeout=30) == 3
    assert made.counts.run(3, cache=False).wait(timeout=30) == 3
    assert (len(made.tries), made.executed) == (4, [3, 3])


@row("@flow(stack=, image=)", "my_flow.run(stack=, image=)")
def test_a_stack_or_an_image_that_is_not_there_is_refused(code: Code) -> None:
    made = code.load(SHOUT)

    for options in ({"stack": "kubernetes"}, {"image": "python:3.12"}):
        with pytest.raises(KitaruUsageError):
            kitaru.flow(**options)(lambda: None)
        with pytest.raises(KitaruUsageError):
            made.shout.run("agents", **options)
    assert made.shout.run("agents", stack="local").wait(timeout=30) == "ABOUT AGENTS"
    assert len(code.client.executions.list()) == 1


@row("my_flow.replay(exec_id, from_=, overrides=)")
def test_a_flow_replays_an_execution_with_another_value(code: Code) -> None:
    made = code.load(SHOUT)
    handle = made.shout.run("agents")
    handle.wait(timeout=30)

    again = made.shout.replay(handle.exec_id, from_="draft", overrides={"checkpoint.draft": "About tea"})

    assert again.wait(timeout=30) == "ABOUT TEA"
    assert code.client.executions.get(again.exec_id).original_exec_id == handle.exec_id


@row("async def flows and checkpoints")
def test_flows_and_checkpoints_may_be_async(code: Code) -> None:
    made = code.load("""
import asyncio

@checkpoint
async def double(x):
    await asyncio.sleep(0)
    return 2 * x

@flow
async def doubles(n: int):
    return await asyncio.gather(*(double(x) for x in range(n)))
""")

    assert made.doubles.run(3).wait(timeout=30) == [0, 2, 4]
    assert asyncio.run(made.double(4)) == 8


@row("flows that run flows")
def test_a_flow_runs_another_flow(code: Code) -> None:
    made = code.load(
        SHOUT
        + """
@flow
def both(topics: list[str]):
    handles = [shout.run(topic) for topic in topics]
    return [handle.wait() for handle in handles]
"""
    )

    assert made.both.run(["tea", "agents"]).wait(timeout=30) == ["ABOUT TEA", "ABOUT AGENTS"]


@row("several results of one flow")
def test_a_flow_may_return_what_several_checkpoints_gave(code: Code) -> None:
    made = code.load(
        SHOUT
        + """
@flow
def two():
    return [draft("a"), draft("b")]
"""
    )

    assert made.two.run().wait(timeout=30) == ["About a", "About b"]


@row("KitaruUserCodeError", "FailureInfo", "FailureOrigin")
def test_a_failure_is_that_of_the_flow(code: Code) -> None:
    made = code.load("""
@flow
def fails():
    raise OSError("no disk")
""")
    handle = made.fails.run()

    with pytest.raises(KitaruUserCodeError) as raised:
        handle.wait(timeout=30)

    assert isinstance(raised.value.__cause__, OSError)
    assert raised.value.failure_origin == kitaru.FailureOrigin.USER_CODE
    failure = code.client.executions.get(handle.exec_id).failure
    assert failure is not None
    assert (failure.message, failure.exception_type, failure.origin) == ("no disk", "OSError", "user_code")
    assert "raise OSError" in str(failure.traceback)


@row("KitaruError", "KitaruDivergenceError", "KitaruWaitValidationError", "KitaruLogRetrievalError")
@row("KitaruFeatureNotAvailableError")
def test_the_errors_are_one_tree() -> None:
    names = (
        "KitaruUsageError", "KitaruContextError", "KitaruStateError", "KitaruRuntimeError", "KitaruExecutionError",
        "KitaruUserCodeError", "KitaruDivergenceError", "KitaruBackendError", "KitaruLogRetrievalError",
        "KitaruWaitValidationError", "KitaruFeatureNotAvailableError",
    )  # fmt: skip

    assert all(issubclass(getattr(kitaru, name), kitaru.KitaruError) for name in names)
    assert issubclass(kitaru.KitaruFeatureNotAvailableError, NotImplementedError)
    assert issubclass(KitaruStateError, RuntimeError)
