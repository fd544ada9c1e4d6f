"""Calls of asynchronous checkpoints: their tries, timeouts and pauses, and callers that give up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from threading import get_ident
from typing import Any, TypeVar

from kitaru_registry.errors import KitaruUsageError
from kitaru_registry.journal.entries import Encoded, Entry, Kind
from kitaru_registry.journal.keys import Call
from kitaru_runner.engine.aio.arrivals import branches
from kitaru_runner.engine.aio.loop import LoopSide, branch_here, gives_up, in_one_process, loop_side
from kitaru_runner.engine.checkpoints.cache_keys import cache_key
from kitaru_runner.engine.checkpoints.call import executed
from kitaru_runner.engine.checkpoints.contexts import context_of_try, in_context
from kitaru_runner.engine.checkpoints.digest_only import Remaking, pause_in_place
from kitaru_runner.engine.checkpoints.isolated import IsolatedTry
from kitaru_runner.engine.checkpoints.other_arguments import check_arguments
from kitaru_runner.engine.checkpoints.pauses import pause_us
from kitaru_runner.engine.checkpoints.reuse import reusable
from kitaru_runner.engine.checkpoints.stands import pause_request
from kitaru_runner.engine.checkpoints.tries import (
    Executed,
    Try,
    begin_try,
    isolated,
    not_begun,
    not_called,
    unrecordable,
    value_of,
)
from kitaru_runner.engine.core.calls import Branch
from kitaru_runner.engine.core.forking import is_left_to_parent
from kitaru_runner.engine.core.lanes import Lane
from kitaru_runner.engine.core.pace import Pace
from kitaru_runner.engine.core.passing import is_live
from kitaru_runner.engine.core.recorded import is_cancellation, is_unkept
from kitaru_runner.engine.core.specs import HELD_PAUSE_SECONDS, Work, timed_out
from kitaru_runner.engine.core.watching import watch
from kitaru_runner.engine.threads.futures import CheckpointFuture, futures_in, with_values
from kitaru_runner.values import codec
from kitaru_runner.values.arguments import digest_inputs, is_opaque
from kitaru_runner.values.exceptions import recorded_failure
from kitaru_runner.values.failures import describe_unkept, rebuild

T = TypeVar("T")


class LoopSlot:
    """A call's room in all its lanes. A pause between its tries gives that up."""

    def __init__(self, side: LoopSide, lanes: Sequence[Lane]) -> None:
        self._rooms = [side.lane(lane) for lane in lanes]
        self._held: list[asyncio.Semaphore] = []

    async def enter(self) -> None:
        for room in self._rooms[len(self._held) :]:
            await room.acquire()
            self._held.append(room)

    def leave(self) -> None:
        while self._held:
            self._held.pop().release()


async def run_checkpoint(
    work: Work, *, id_: str | None = None, lanes: Sequence[Lane] = (), after: Sequence[CheckpointFuture[Any]] = ()
) -> Any:
    """The outcome of an asynchronous call: recorded, or executed and recorded.

    Its scope is that of the task that awaits it, which need not be the one that called: `gather(fetch(1))`.
    """
    branch = branch_here(work.spec.name)
    attempt = branch.attempt
    if is_left_to_parent(attempt):
        # It refuses; a fork has no running loop to ask first, whatever its parent had.
        branch.place(work.spec.name, what="checkpoint")
    side = loop_side(attempt, branch)
    call = branch.place(work.spec.name, id_, "checkpoint")
    if not branch.has_order and branch.family is not None and id_ is None:
        call = branch.family.find(branch, call, digest_inputs(work.arguments()))
    first = (*after, *futures_in(work))
    entry = attempt.recorded.find(call, b"")
    if first and (entry is None or not is_cancellation(entry)):
        try:
            async with giving_up(side, call, work):
                for future in first:
                    await future
            work = with_values(work, first)
        except Exception as error:
            # Not this call's caller yet: it gets the failure in its turn.
            failed = (recorded_failure(error) or {}).get("checkpoint", call.key)
            attempt.unconsumed.recorded(failed)
            await prevented(side, call, work, error)
            attempt.unconsumed.given(failed, branch.task)
            raise
    inputs = digest_inputs(work.arguments())
    entry = attempt.recorded.find(call, inputs)
    if entry is not None and is_cancellation(entry) and not await gives_up(side, entry):
        entry = None
    slot = LoopSlot(side, lanes)
    try:
        if entry is not None:
            return await replay(side, branch, call, work, entry, inputs)
        if lanes:
            async with giving_up(side, call, work):
                await slot.enter()
        return await execute(side, branch, call, work, inputs, slot)
    except BaseException as error:
        if recorded_failure(error) is not None:
            attempt.unconsumed.given(call.key, branch.task)
        raise
    finally:
        slot.leave()


async def prevented(side: LoopSide, call: Call, work: Work, error: Exception) -> None:
    """Give a call that another one's failure kept from being made its place among the outcomes."""
    entry = side.attempt.recorded.find(call)
    if entry is not None:
        await side.turn(entry.seq)
        return
    if is_live(error):
        return
    async with giving_up(side, call, work):
        await side.commit(not_called(call, work.spec, error))


async def replay(side: LoopSide, branch: Branch, call: Call, work: Work, entry: Entry, inputs: bytes) -> Any:
    """The outcome of an earlier attempt, in its turn."""
    attempt = side.attempt
    check_arguments(attempt, call, entry, inputs, work.arguments)
    if entry.error is not None:
        attempt.unconsumed.recorded(call.key)
    await side.turn(entry.seq)
    if is_unkept(entry):
        return attempt.its(Remaking).checked(entry, await execute_again(branch, call, work, entry))
    return attempt.outcome(entry)


async def execute_again(branch: Branch, call: Call, work: Work, entry: Entry) -> Encoded:
    """The value of a call under `record="digest"`, executed again; what it calls has the keys that are recorded."""
    attempt, failed = branch.attempt, 0
    while True:
        attempt.check_halted()
        attempt.parking.begin()
        try:
            return await tried_again(branch.open_try(call, entry.tries or 1), call, work)
        except Exception as error:
            if is_live(error):
                raise
            failed += 1
            if not work.spec.retries_after(error, failed):
                raise rebuild(describe_unkept(error, checkpoint=call.key)) from None
        finally:
            attempt.parking.end()
        await loop_side(attempt, branch).rest(pause_in_place(work.spec, failed, call))


async def tried_again(branch: Branch, call: Call, work: Work) -> Encoded:
    if work.spec.isolated:
        own = IsolatedTry(branch.attempt, call, work)
        return value_of(await in_a_thread(own.execute, pace=branch.attempt.pace, give_up=own.end))
    return codec.encode(await in_try(branch, call, work))


async def execute(side: LoopSide, branch: Branch, call: Call, work: Work, inputs: bytes, slot: LoopSlot) -> Any:
    """Run the tries that are left, and record the outcome."""
    attempt = side.attempt
    key = cache_key(attempt, work, inputs)
    known = reusable(attempt, call, work, inputs, key)
    if known is not None:
        async with giving_up(side, call, work):
            await side.commit(known.entry)
        return executed(attempt, known)
    while True:
        failed, _ = attempt.recorded.failed_tries(call.key)
        if failed:
            async with giving_up(side, call, work):
                await pause(side, call, work, slot)
        this_try = begin_try(call, work, branch, inputs, number=failed + 1, cache_key=key)
        try:
            async with giving_up(side, call, work, this_try):
                ended = await recorded(side, await tried(this_try, work))
        finally:
            attempt.parking.end()
        if ended.entry.kind == Kind.CALL:
            return executed(attempt, ended)
        attempt.recorded.try_failed(call.key, this_try.number, ended.entry.ended_us)


async def recorded(side: LoopSide, ended: Executed) -> Executed:
    """Record an outcome, or why that cannot be."""
    try:
        await commit(side, ended.entry)
    except KitaruUsageError as error:
        ended = unrecordable(ended, error)
        await commit(side, ended.entry)
    return ended


async def commit(side: LoopSide, entry: Entry) -> None:
    if entry.error is not None and entry.kind == Kind.CALL:
        side.attempt.unconsumed.recorded(entry.key)
    await side.commit(entry)


@asynccontextmanager
async def giving_up(side: LoopSide, call: Call, work: Work, this_try: Try | None = None) -> AsyncIterator[None]:
    """Record it when the caller gives up: a replay, which may come further in the same time, gives up there too."""
    try:
        yield
    except asyncio.CancelledError as error:
        if side.records:
            failed, _ = side.attempt.recorded.failed_tries(call.key)
            side.attempt.unconsumed.gave_up(call.key, error, branch_here(call.name).task)
            begun = this_try.cancelled(error).entry if this_try is not None else None
            await side.commit_surely(begun or not_begun(call, work.spec, error, tries=failed))
        raise


async def tried(this_try: Try, work: Work) -> Executed:
    """Make a try; what it came to."""
    if work.spec.isolated:
        own = IsolatedTry(this_try.branch.attempt, this_try.call, work)
        pace = this_try.branch.attempt.pace
        return await in_a_thread(lambda: isolated(own, this_try), pace=pace, give_up=own.end)
    alone = not is_opaque(this_try.inputs) or len(asyncio.all_tasks()) == 1
    before = watch(work, this_try.inputs, scope=this_try.call.scope, alone=alone)
    ended = await tried_here(this_try, work)
    return ended if before is None else this_try.checked(ended, before)


async def tried_here(this_try: Try, work: Work) -> Executed:
    try:
        value = await in_try(this_try.branch, this_try.call, work)
        return this_try.returned(value)
    except Exception as error:
        if is_live(error):
            this_try.passed()
            raise
        return this_try.failed(error)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Nobody cancelled it: it awaited something that was.
        return this_try.cancelled_itself(error)


async def in_a_thread(execute: Callable[[], T], *, pace: Pace, give_up: Callable[[], None]) -> T:
    """What `execute` gives, in a thread of its own.

    Args:
        give_up: lets it end soon, when the caller gives up.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(end: Callable[[Any], None], outcome: object) -> None:
        if not done.done():
            end(outcome)

    def run() -> None:
        try:
            outcome: tuple[Callable[[Any], None], object] = (done.set_result, execute())
        except BaseException as error:
            outcome = (done.set_exception, error)
        try:
            loop.call_soon_threadsafe(tell, *outcome)
        except RuntimeError:
            pass  # the loop was closed: nobody waits any more

    pace.start(run, "kitaru-isolated", daemon=True)
    try:
        return await done
    except asyncio.CancelledError:
        give_up()
        raise


async def in_try(branch: Branch, call: Call, work: Work) -> Any:
    """What the function gives, in the scope of a try."""
    task = branch.task = asyncio.current_task()
    branch.home = get_ident()
    assert task is not None
    outer, branches[task] = branches.get(task), branch
    try:
        return await in_context(context_of_try(branch), in_time(work, call, branch))
    finally:
        if outer is None:
            del branches[task]
        else:
            branches[task] = outer


async def in_time(work: Work, call: Call, branch: Branch) -> Any:
    """What the function gives, within its timeout."""
    if work.spec.timeout_seconds is None:
        return await in_one_process(branch.attempt, work.function(*work.args, **work.kwargs))
    pace, limit = branch.attempt.pace, asyncio.timeout(work.spec.timeout_seconds)
    over = pace.monotonic() + work.spec.timeout_seconds
    try:
        async with limit:
            value = await in_one_process(branch.attempt, work.function(*work.args, **work.kwargs))
    except Exception as error:
        if limit.expired():
            raise timed_out(work.spec, call.key) from error
        raise
    # It went on nevertheless, or blocked the loop, whose timers did not come to end it.
    if limit.expired() or pace.monotonic() > over:
        raise timed_out(work.spec, call.key)
    return value


async def pause(side: LoopSide, call: Call, work: Work, slot: LoopSlot) -> None:
    """Let the pause after a failed try pass: in place if it is short, else as a durable timer."""
    attempt = side.attempt
    left_us = pause_us(attempt, call, work.spec)
    if not left_us:
        return
    slot.leave()
    await pass_time(side, call, left_us)
    await slot.enter()


async def pass_time(side: LoopSide, call: Call, left_us: int) -> None:
    attempt = side.attempt
    if left_us > HELD_PAUSE_SECONDS * 1_000_000:
        request = pause_request(call, attempt.recorded.failed_tries(call.key)[1], left_us)
        if attempt.guard(lambda: attempt.journal.open_wait(request)) is None:
            await side.answer(request.key)
        return
    attempt.parking.begin()
    try:
        await side.rest(left_us / 1_000_000)
    finally:
        attempt.parking.end()
