"""One attempt at a flow's body, from the top to an outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from kitaru_registry.errors import KitaruDivergenceError, KitaruFencedError, KitaruUsageError
from kitaru_runner import codec, logs
from kitaru_runner.context import Branch, current
from kitaru_runner.engine import Engine
from kitaru_runner.failures import FAILED_CALL, ExecutionCancelled, describe_failure, recorded_failure
from kitaru_runner.protocol import Encoded
from kitaru_runner.specs import is_coroutine_function


def run_body(engine: Engine, body: Callable[..., Any], kwargs: Mapping[str, Any]) -> bool:
    """Run the body, and record its result or its failure as the execution's end. True: it is to begin anew.

    Of one that is halted (Engine.halt) nothing is recorded, whatever the body makes of that.

    Raises:
        KitaruFencedError: another attempt owns the execution by now; nothing was recorded.
        KeyboardInterrupt: the process is to end; nothing was recorded, and the execution can be resumed. In the process
            of a deployed flow nobody interrupts: there it is a failure like others.
    """
    branch = Branch(engine)
    token = current.set(branch)
    engine.enter(caller_is_plain=False)
    # This thread counts as in flight up to the end that is recorded.
    engine.parking.begin()
    engine.parking.own()
    try:
        try:
            value = call(branch, body, kwargs)
        finally:
            # Before the end is recorded: who follows the log stops there.
            logs.end_lines(engine.exec_id)
        encoded = codec.encode(value)
    except (KitaruFencedError, ExecutionCancelled):
        raise
    except KitaruDivergenceError as error:
        return not engine.is_halted and engine.finish(None, describe(error))
    except BaseException as error:  # SystemExit and asyncio's CancelledError too
        if isinstance(error, KeyboardInterrupt) and engine.root is None:
            raise
        return engine.finish(None, describe(error, unseen=engine.deliveries.unseen_failures()))
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
        return engine.finish(None, describe(error))


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
            finally:
                branch.engine.loop_side.is_over = True
    finally:
        aside.back()


def describe(error: BaseException, *, unseen: Sequence[str] = ()) -> dict[str, Any]:
    """The failure that ended the flow; a checkpoint's own record where that is what reached the top.

    `failed` lists what a retry executes again: the checkpoints whose failures it is made of; if there are any, the
    `unseen` too, which failed beside them and which the flow has not looked at.
    """
    recorded = recorded_failure(error)
    described = dict(recorded) if recorded is not None else describe_failure(error)
    failed = list(dict.fromkeys(failed_checkpoints(error)))
    failed += [key for key in unseen if failed and key not in failed]
    return {**described, "failed": failed} if failed else described


def failed_checkpoints(error: BaseException) -> Iterator[str]:
    """Keys of the checkpoints, and the waits, whose recorded failures this one is, groups, or was raised because of.

    A wait that nobody answered in time, which a flow handles, is not to be asked again because the handling failed: of
    what is known only as what was being handled, waits do not count.
    """
    seen: set[int] = set()
    left = [(error, False)]
    while left:
        error, caught = left.pop()
        if id(error) in seen:
            continue
        seen.add(id(error))
        recorded = recorded_failure(error)
        if recorded is not None and "checkpoint" in recorded:
            yield recorded["checkpoint"]
        elif FAILED_CALL in error.__dict__ and not caught:
            yield error.__dict__[FAILED_CALL]
        if recorded is not None and "cause" in recorded:
            # Of a child execution: its checkpoints are not this one's.
            continue
        if error.__context__ is not None and not error.__suppress_context__:
            left.append((error.__context__, True))
        group = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
        left += [(inner, caught) for inner in (error.__cause__, *reversed(group)) if inner is not None]
