"""One attempt at a flow's body, from the top to an outcome."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from kitaru_registry.errors import KitaruDivergenceError, KitaruFencedError
from kitaru_runner import codec, logs
from kitaru_runner.context import Branch, current
from kitaru_runner.engine import Engine
from kitaru_runner.failures import describe_failure, recorded_failure


class ExecutionCancelled(BaseException):
    """Raised at the next call of Kitaru's in an in-process run that was cancelled; a deployed one is just ended."""


def run_body(engine: Engine, body: Callable[..., Any], kwargs: Mapping[str, Any]) -> None:
    """Run the body, and record its result or its failure as the execution's end.

    Raises:
        KitaruFencedError: another attempt owns the execution by now; nothing was recorded.
        KeyboardInterrupt: the process is to end; nothing was recorded, and the execution can be resumed.
    """
    branch = Branch(engine)
    token = current.set(branch)
    engine.enter(caller_is_plain=False)
    try:
        try:
            value = call(branch, body, kwargs)
        finally:
            # Before the end is recorded: who follows the log stops there.
            logs.end_lines(engine.exec_id)
        encoded = codec.encode(value)
    except (KitaruFencedError, ExecutionCancelled, KeyboardInterrupt):
        raise
    except KitaruDivergenceError as error:
        if not engine.is_halted:
            engine.finish(None, describe(error))
    except (Exception, SystemExit) as error:
        engine.finish(None, describe(error))
    else:
        engine.finish(encoded, None)
    finally:
        engine.leave()
        current.reset(token)


def call(branch: Branch, body: Callable[..., Any], kwargs: Mapping[str, Any]) -> Any:
    args = kwargs.get("*args", ())
    named = {name: value for name, value in kwargs.items() if name != "*args"}
    if not inspect.iscoroutinefunction(body):
        return body(*args, **named)
    import asyncio

    from kitaru_runner.engine_async import run_on_loop

    with asyncio.Runner() as runner:
        return runner.run(run_on_loop(branch, body, args, named))


def describe(error: BaseException) -> dict[str, Any]:
    """The failure that ended the flow; a checkpoint's own record where that is what reached the top."""
    recorded = recorded_failure(error)
    return dict(recorded) if recorded is not None else describe_failure(error)
