"""One attempt at a flow's body, from the top to an outcome."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from kitaru_registry.errors import KitaruDivergenceError, KitaruFencedError, KitaruUsageError
from kitaru_registry.journal.entries import Encoded
from kitaru_runner.engine.body import output as logs
from kitaru_runner.engine.body.creation import creation
from kitaru_runner.engine.checkpoints.isolated import Processes
from kitaru_runner.engine.core import forking
from kitaru_runner.engine.core.attempt import Attempt
from kitaru_runner.engine.core.calls import Branch, active, current
from kitaru_runner.engine.core.forking import end_fork, is_left_to_parent
from kitaru_runner.engine.core.passing import PASSED
from kitaru_runner.engine.core.specs import is_coroutine_function
from kitaru_runner.engine.core.unconsumed import Unconsumed
from kitaru_runner.engine.threads.futures import CheckpointFuture, Deliveries
from kitaru_runner.values import codec
from kitaru_runner.values.exceptions import recorded_failure
from kitaru_runner.values.failures import ExecutionCancelled, ProcessEnded, describe_failure


def run_body(attempt: Attempt, body: Callable[..., Any], kwargs: Mapping[str, Any]) -> bool:
    """Run the body, and record its result or its failure as the execution's end. True: it is to begin anew.

    Of one that is halted (Attempt.halt) nothing is recorded, whatever the body makes of that.

    Raises:
        KitaruFencedError: another attempt owns the execution by now; nothing was recorded.
        KeyboardInterrupt: Ctrl-C; nothing was recorded, and the execution can be resumed. One that no signal made is a
            failure like others.
    """
    branch = Branch(attempt)
    branch.home = threading.get_ident()
    token = current.set(branch)
    enter(attempt)
    # This thread counts as in flight up to the end that is recorded.
    attempt.parking.begin()
    attempt.parking.own()
    attempt.unconsumed.body_begins()
    try:
        try:
            value = call(branch, body, kwargs)
            if is_left_to_parent(attempt):
                end_fork()
            attempt.families.check_all_taken()
        except BaseException as error:
            if is_left_to_parent(attempt):
                end_fork(error)
            attempt.unconsumed.body_ended(attempt.passed)
            raise
        finally:
            # Before the end is recorded: who follows the log stops there.
            logs.end_lines(attempt.exec_id)
        encoded = codec.encode(value)
    except (KitaruFencedError, ExecutionCancelled, ProcessEnded):
        raise
    except KitaruDivergenceError as error:
        return not attempt.is_halted and attempt.finish(None, describe(error, attempt.unconsumed))
    except BaseException as error:  # SystemExit and asyncio's CancelledError too
        if isinstance(error, KeyboardInterrupt) and attempt.root is None and may_be_ctrl_c():
            raise
        return attempt.finish(None, describe(error, attempt.unconsumed))
    else:
        return end_with(attempt, encoded)
    finally:
        attempt.parking.disown()
        attempt.end()
        leave(attempt)
        current.reset(token)


def enter(attempt: Attempt) -> None:
    forking.watch(attempt)
    attempt.its(Deliveries).take_in_turn = take_in_turn
    active.enter(caller_is_plain=False)
    creation.begin()


def leave(attempt: Attempt) -> None:
    attempt.its(Processes).end()
    attempt.loops.leave()
    creation.end()
    active.leave()


def take_in_turn(branch: Branch, future: CheckpointFuture[Any]) -> Coroutine[Any, Any, Any]:
    from kitaru_runner.engine.aio.loop import take_in_turn as on_loop

    return on_loop(branch, future)


def end_with(attempt: Attempt, result: Encoded) -> bool:
    """Record the result; or, where that is too large to be recorded, that failure."""
    try:
        return attempt.finish(result, None)
    except KitaruUsageError as error:
        return attempt.finish(None, describe(error, attempt.unconsumed))


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

    from kitaru_runner.engine.aio.loop import run_on_loop

    # A loop's thread rests when its tasks do; engine_async sees that.
    aside = branch.attempt.parking.aside()
    try:
        with asyncio.Runner(loop_factory=branch.attempt.pace.loop_factory) as runner:
            try:
                return runner.run(run_on_loop(branch, body, args, named))
            except BaseException:
                branch.attempt.unconsumed.body_ended(branch.attempt.passed)
                raise
            finally:
                branch.attempt.loops.end()
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
