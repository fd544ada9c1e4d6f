"""One attempt at a flow's body, from the top to an outcome."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping
from typing import Any

from kitaru_registry.errors import KitaruDivergenceError, KitaruFencedError, KitaruUsageError
from kitaru_runner import codec, logs
from kitaru_runner.context import Branch, current
from kitaru_runner.engine import Engine
from kitaru_runner.exceptions import recorded_failure
from kitaru_runner.failures import ExecutionCancelled, ProcessEnded, describe_failure
from kitaru_runner.forking import end_fork, is_left_to_parent
from kitaru_runner.passing import PASSED
from kitaru_runner.protocol import Encoded
from kitaru_runner.specs import is_coroutine_function
from kitaru_runner.unconsumed import Unconsumed


def run_body(engine: Engine, body: Callable[..., Any], kwargs: Mapping[str, Any]) -> bool:
    """Run the body, and record its result or its failure as the execution's end. True: it is to begin anew.

    Of one that is halted (Engine.halt) nothing is recorded, whatever the body makes of that.

    Raises:
        KitaruFencedError: another attempt owns the execution by now; nothing was recorded.
        KeyboardInterrupt: Ctrl-C; nothing was recorded, and the execution can be resumed. One that no signal made is a
            failure like others.
    """
    branch = Branch(engine)
    branch.home = threading.get_ident()
    token = current.set(branch)
    engine.enter(caller_is_plain=False)
    # This thread counts as in flight up to the end that is recorded.
    engine.parking.begin()
    engine.parking.own()
    engine.unconsumed.body_begins()
    try:
        try:
            value = call(branch, body, kwargs)
            if is_left_to_parent(engine):
                end_fork()
            engine.families.check_all_taken()
        except BaseException as error:
            if is_left_to_parent(engine):
                end_fork(error)
            engine.unconsumed.body_ended(engine.passed)
            raise
        finally:
            # Before the end is recorded: who follows the log stops there.
            logs.end_lines(engine.exec_id)
        encoded = codec.encode(value)
    except (KitaruFencedError, ExecutionCancelled, ProcessEnded):
        raise
    except KitaruDivergenceError as error:
        return not engine.is_halted and engine.finish(None, describe(error, engine.unconsumed))
    except BaseException as error:  # SystemExit and asyncio's CancelledError too
        if isinstance(error, KeyboardInterrupt) and engine.root is None and may_be_ctrl_c():
            raise
        return engine.finish(None, describe(error, engine.unconsumed))
    else:
        return end_with(engine, encoded)
    finally:
        engine.parking.disown()
        engine.end()
        engine.leave()
        current.reset(token)


def end_with(engine: Engine, result: Encoded) -> bool:
    """Record the result; or, where that is too large to be recorded, that failure."""
    try:
        return engine.finish(result, None)
    except KitaruUsageError as error:
        return engine.finish(None, describe(error, engine.unconsumed))


def may_be_ctrl_c() -> bool:
    """Whether a KeyboardInterrupt in this thread may be a signal's: Python raises it in the main one alone."""
    is_main = threading.current_thread() is threading.main_thread()
    return is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def call(branch: Branch, body: Callable[..., Any], kwargs: Mapping[str, Any]) -> Any:
    args = kwargs.get("*args", ())
    named = {name: value for name, value in kwargs.items() if name != "*args"}
    if not is_coroutine_function(body):
        return body(*args, **named)
    import asyncio

    from kitaru_runner.engine_async import run_on_loop

    # A loop's thread rests when its tasks do; engine_async sees that.
    aside = branch.engine.parking.aside()
    try:
        with asyncio.Runner(loop_factory=branch.engine.pace.loop_factory) as runner:
            try:
                return runner.run(run_on_loop(branch, body, args, named))
            except BaseException:
                branch.engine.unconsumed.body_ended(branch.engine.passed)
                raise
            finally:
                branch.engine.loops.end()
    finally:
        aside.back()


def describe(error: BaseException, unconsumed: Unconsumed) -> dict[str, Any]:
    """The failure that ended the flow; a checkpoint's own record where that is what reached the top.

    `failed` lists what a retry executes again, and `cut` the calls that were given up on the way; `until` is the
    number of the last outcome that the body can have seen.
    """
    recorded = recorded_failure(error)
    described = dict(recorded) if recorded is not None else describe_failure(error)
    described.pop(PASSED, None)  # here it is a failure
    said = {"failed": unconsumed.keys(error), "cut": unconsumed.cut(), "until": unconsumed.until}
    return {**described, **{name: value for name, value in said.items() if value is not None}}
