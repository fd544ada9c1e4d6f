"""The engine's side on an event loop: tasks, turns and waits; calling.py has the checkpoints.

Outcomes reach their tasks one at a time, in the order of the journal, each after the loop has come to rest: so a
replay takes the same turns as the first run, through `gather`, `FIRST_COMPLETED` and task groups alike. Checkpoints
that end in the same turn of the loop share one commit.
"""

from __future__ import annotations

import asyncio
import heapq
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import takewhile
from typing import Any, TypeVar

from kitaru_registry.errors import KitaruContextError, KitaruUsageError
from kitaru_registry.journal.entries import Answer, Entry
from kitaru_runner.engine.aio.arrivals import Arrivals
from kitaru_runner.engine.aio.executors import Threads
from kitaru_runner.engine.aio.timers import Timers
from kitaru_runner.engine.core.attempt import Attempt
from kitaru_runner.engine.core.calls import Branch, this_branch
from kitaru_runner.engine.core.forking import end_fork, is_left_to_parent
from kitaru_runner.engine.core.lanes import Lane
from kitaru_runner.engine.core.loops import SLOW_SECONDS, Side
from kitaru_runner.engine.core.recorded import is_cancellation
from kitaru_runner.engine.threads.futures import CheckpointFuture, Deliveries

T = TypeVar("T")

STALL_SECONDS = 0.02
"""How long a recorded outcome waits for an earlier one that nobody asks for."""

REST_SECONDS = 0.05
"""How long a loop rests before its execution parks."""

SPINS_WITHOUT_INSIGHT = 10
"""Turns that count as rest on a loop that does not show its ready queue (uvloop)."""

MOST_SPINS = 10_000
"""Turns after which a loop counts as at rest that never is, as with `asyncio.sleep(0)` until a task is done."""


class LoopSide(Side):
    def __init__(self, attempt: Attempt, loop: asyncio.AbstractEventLoop, scope: str = "") -> None:
        """
        Args:
            scope: that of the branch which runs the loop; others' outcomes have no turn here.
        """
        self.attempt = attempt
        self.loop = loop
        # The second number keeps those apart who stand at the same outcome.
        self._turns: list[tuple[int, int, asyncio.Future[None]]] = []
        self._enlisted = 0
        handed_out = attempt.loops.handed_out
        self._recorded = deque(seq for seq in attempt.recorded.order(scope) if seq not in handed_out)
        self._undelivered = set(self._recorded)
        self._expected: set[int] = set()
        self._timers = Timers(self, loop, attempt.opening)
        self._threads = Threads(self, loop, attempt.opening, attempt.parking)
        self.arrivals = Arrivals(self, loop, attempt.opening)
        self._pumping = False
        self._spins = 0
        self._stalled_at: int | None = None
        self._batch: list[tuple[Entry, asyncio.Future[None]]] = []
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        self._lanes: dict[Lane, asyncio.Semaphore] = {}
        self._watched_activity = -1
        self._rested_seconds = 0.0
        self._parked_activity = -1
        self.thread = threading.get_ident()
        self._watching = False
        self.is_over = False
        """The body has ended. The tasks that it left are cut short, which is no outcome of theirs."""

    @property
    def is_running(self) -> bool:
        return self.loop.is_running()

    def leave(self) -> None:
        self._timers.leave()
        self._threads.leave()
        self.arrivals.leave()

    def made(self, branch: Branch, task: asyncio.Task[Any]) -> None:
        """That task of this loop is in that branch."""
        self.arrivals.made(branch, task)

    def given(self, scope: str) -> None:
        self.arrivals.given(scope)

    # Turns

    async def turn(self, seq: int) -> None:
        """Wait until it is this outcome's turn."""
        future = self.loop.create_future()
        self.enlist(seq, future)
        await future

    def delivered(self, seq: int) -> None:
        """A recorded outcome has had its turn, or was given to synchronous code, in its own order."""
        self.attempt.loops.handed_out.add(seq)
        self._undelivered.discard(seq)
        self._expected.discard(seq)
        self._timers.reached(seq)

    def expect(self, seq: int) -> None:
        self._expected.add(seq)

    def enlist(self, seq: int, turn: asyncio.Future[None]) -> None:
        self._enlisted += 1
        heapq.heappush(self._turns, (seq, self._enlisted, turn))
        self._spins = 0
        if not self._pumping:
            self._pumping = True
            self.loop.call_soon(self._pump)

    def _pump(self) -> None:
        while self._turns and self._turns[0][2].done():
            self.delivered(heapq.heappop(self._turns)[0])
        if not self._turns:
            self._pumping = False
        elif not self._at_rest():
            self.loop.call_soon(self._pump)
        else:
            self._deliver_first()

    def _deliver_first(self) -> None:
        seq = self._turns[0][0]
        earlier = self._undelivered_before(seq)
        if not self._expected.isdisjoint(earlier):
            self._pumping = False
        elif self._is_coming(earlier):
            self.attempt.pace.later(self.loop, STALL_SECONDS, self._pump)
        elif earlier and self._stalled_at != seq:
            self._stalled_at = seq
            self.attempt.pace.later(self.loop, STALL_SECONDS, self._pump)
        else:
            self._undelivered.difference_update(earlier)
            self.delivered(seq)
            heapq.heappop(self._turns)[2].set_result(None)
            self._spins = 0
            self.loop.call_soon(self._pump)

    def _is_coming(self, earlier: Sequence[int]) -> bool:
        turns = [turn for _, _, turn in self._turns] if earlier else ()
        return any(self.arrivals.is_coming(known, turns) for known in earlier)

    def _undelivered_before(self, seq: int) -> list[int]:
        """Looks at no more than these, however much is recorded."""
        while self._recorded and self._recorded[0] not in self._undelivered:
            self._recorded.popleft()
        earlier = takewhile(lambda known: known < seq, self._recorded)
        return [known for known in earlier if known in self._undelivered]

    def _at_rest(self) -> bool:
        self._spins += 1
        ready = getattr(self.loop, "_ready", None)
        if ready is not None:
            return not ready or self._spins > MOST_SPINS
        return self._spins > SPINS_WITHOUT_INSIGHT

    async def rest(self, seconds: float) -> None:
        """Let a time of the engine's own pass, which is no part of the flow's way."""
        over = self.loop.create_future()
        clock = self._timers.call_at(self.loop.time() + seconds, end, over)
        try:
            await over
        finally:
            clock.cancel()

    # Commits

    @property
    def records(self) -> bool:
        return not self.attempt.is_halted and not self.is_over

    def is_flows(self, branch: Branch | None) -> bool:
        return branch is not None and branch.call is None and branch.attempt is self.attempt and self.records

    async def commit(self, entry: Entry) -> None:
        """Make the entry durable, together with all that end in this turn of the loop, and wait for its turn."""
        future = self.loop.create_future()
        self.commit_soon(entry, future)
        try:
            await future
        except asyncio.CancelledError:
            self._batch = [(other, waiting) for other, waiting in self._batch if waiting is not future]
            raise

    async def commit_surely(self, entry: Entry) -> None:
        """`commit`, by a task that has been cancelled, and may be once more."""
        turn = self.loop.create_future()
        self.commit_soon(entry, turn)
        with suppress(asyncio.CancelledError):
            await surely(turn)

    def commit_soon(self, entry: Entry, turn: asyncio.Future[None]) -> None:
        self._batch.append((entry, turn))
        if len(self._batch) == 1:
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        batch, self._batch = self._batch, []
        if batch:
            self._commit(batch)

    def _commit(self, batch: Sequence[tuple[Entry, asyncio.Future[None]]]) -> None:
        try:
            last = self.attempt.commit([entry for entry, _ in batch])
        except BaseException as error:
            if isinstance(error, KitaruUsageError) and len(batch) > 1:
                # One of them cannot be recorded, and costs the others nothing.
                for each in batch:
                    self._commit([each])
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for seq, (_, future) in enumerate(batch, start=last - len(batch) + 1):
            self.enlist(seq, future)

    # Waits

    async def answer(self, key: str) -> Answer:
        """Stand until the answer is there."""
        future: asyncio.Future[Answer] = self.loop.create_future()
        self._waiting[key] = future
        early = self.attempt.parking.take(key)
        if early is not None:
            future.set_result(early)
        self._parked_activity = -1
        for side in self.attempt.loops.running:
            side.watch()
        try:
            return await future
        finally:
            del self._waiting[key]

    def answered(self, key: str) -> None:
        """An answer has come, in any thread."""
        self._call(self._resolve, key)

    def _call(self, call: Callable[..., None], *args: object) -> None:
        call_on(self.loop, call, *args)

    def _resolve(self, key: str) -> None:
        future = self._waiting.get(key)
        if future is None or future.done():
            return
        answer = self.attempt.parking.take(key)
        if answer is not None:
            self._parked_activity = -1
            future.set_result(answer)

    def halted(self, error: BaseException) -> None:
        """Let every standing wait raise this; in any thread."""
        self._call(self._raise_in_waits, error)

    def _raise_in_waits(self, error: BaseException) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)

    def lane(self, lane: Lane) -> asyncio.Semaphore:
        """What holds back the calls above a limit, in order."""
        return self._lanes.setdefault(lane, asyncio.Semaphore(lane.limit))

    def watch(self) -> None:
        self._call(self._begin_to_watch)

    def _begin_to_watch(self) -> None:
        if not self._watching:
            self._watching = True
            self.attempt.pace.later(self.loop, REST_SECONDS, self._watch)

    def _watch(self) -> None:
        """Park when nothing moves but waits: a timer far away is no reason to hold a process."""
        parking = self.attempt.parking
        others = [side for side in self.attempt.loops.running if side is not self]
        if not self._waiting and not parking.is_stood_at and not any(side.waits for side in others):
            self._watching = False
            return
        moved = parking.activity != self._watched_activity or bool(self._turns) or not parking.rests()
        moved = moved or not all(side.rests for side in others)
        self._watched_activity = parking.activity
        self._rested_seconds = 0.0 if moved else self._rested_seconds + REST_SECONDS
        if not moved and self._parked_activity != parking.activity and not self._held_by_timer():
            self._parked_activity = parking.activity
            parking.park()
        self.attempt.pace.later(self.loop, REST_SECONDS, self._watch)

    def _held_by_timer(self) -> bool:
        if self._rested_seconds > SLOW_SECONDS:
            return False
        timers = list(getattr(self.loop, "_scheduled", ()))
        horizon = self.loop.time() + SLOW_SECONDS
        return any(not t.cancelled() and t.when() < horizon and not self._is_ours(t._callback) for t in timers)

    def _is_ours(self, callback: object) -> bool:
        return getattr(callback, "__self__", None) is self

    @property
    def rests(self) -> bool:
        is_ready = bool(getattr(self.loop, "_ready", False))
        return not (self._turns or self._batch or is_ready or self._held_by_timer())

    @property
    def waits(self) -> bool:
        return bool(self._waiting)


def end(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


def call_on(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *args: object) -> None:
    """Call it on the loop, from any thread; not where the flow has ended, and its loop is closed."""
    try:
        loop.call_soon_threadsafe(call, *args)
    except RuntimeError:
        if not loop.is_closed():
            raise


def loop_side(attempt: Attempt, branch: Branch) -> LoopSide:
    """The engine's side on the running loop.

    Raises:
        KitaruContextError: the task is none that has a scope.
    """
    task = asyncio.current_task()
    if task is None or (branch.call is None and branch.task is not None and branch.task is not task):
        raise KitaruContextError(
            "a checkpoint was called in a task, or a callback, that the flow did not see begin",
            hint="start tasks with asyncio.create_task, gather or a TaskGroup",
        )
    return side_on(attempt, asyncio.get_running_loop(), branch)


def side_on(attempt: Attempt, loop: asyncio.AbstractEventLoop, branch: Branch) -> LoopSide:
    """The engine's side on that loop; made at need, by the branch that comes there first."""
    for known in attempt.loops.sides:
        if isinstance(known, LoopSide) and known.loop is loop:
            return known
    side = LoopSide(attempt, loop, branch.scope)
    attempt.loops.add(side)
    return side


async def take_in_turn(branch: Branch, future: CheckpointFuture[T]) -> T:
    """The outcome of a call that was submitted to a thread, when its turn has come."""
    side = loop_side(branch.attempt, branch)
    loop = asyncio.get_running_loop()
    known = loop.create_future()

    def herald(_: object = None) -> None:
        call_on(loop, end, known)

    # Its own callback: a future whose outcome could not be recorded ends too.
    Future.add_done_callback(future, herald)
    if branch.attempt.its(Deliveries).when_recorded(future, herald):
        await known
    if future.seq is not None:
        await side.turn(future.seq)
    return future.result()


async def take_turn(side: LoopSide, entry: Entry) -> bool:
    """Wait until it is this outcome's turn. False: it is that the caller gave up, and that does not do so again."""
    if not is_cancellation(entry):
        await side.turn(entry.seq)
        return True
    return await gives_up(side, entry)


async def gives_up(side: LoopSide, entry: Entry) -> bool:
    """Wait for a caller that gave up to do so again. False: after a retry, it goes another way and does not.

    That it gave up is true no sooner than the turn has come, and then for sure.

    Raises:
        CancelledError: it gave up.
    """
    loop = asyncio.get_running_loop()
    branch = branch_here(entry.key)
    try:
        # A second time: what follows from earlier outcomes has happened when the loop has come to rest again.
        for _ in range(2):
            turn = loop.create_future()
            side.enlist(entry.seq, turn)
            await surely(turn)
            if not side.attempt.recorded.was_retried:
                await loop.create_future()
    except asyncio.CancelledError as error:
        side.attempt.unconsumed.gave_up(entry.key, error, branch.task)
        raise
    return False


async def surely(turn: asyncio.Future[None]) -> None:
    """Wait for a turn although the caller gives up.

    Raises:
        CancelledError: afterwards, if it did.
    """
    gave_up: asyncio.CancelledError | None = None
    while not turn.done():
        try:
            await asyncio.shield(turn)
        except asyncio.CancelledError as error:
            gave_up = error
    turn.result()
    if gave_up is not None:
        raise gave_up


def branch_here(name: str) -> Branch:
    branch = this_branch()
    if branch is None:
        raise KitaruContextError(
            f"{name} was awaited outside of its flow", hint="await it in the flow's own tasks, or use .submit"
        )
    return branch


async def run_on_loop(
    branch: Branch, body: Callable[..., Awaitable[Any]], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """A flow's asynchronous body, on a loop whose tasks have scopes."""
    loop = asyncio.get_running_loop()
    branch.task = main = asyncio.current_task()
    assert main is not None
    branch.attempt.has_loop(lambda: call_on(loop, main.cancel))
    side_on(branch.attempt, loop, branch)
    return await in_one_process(branch.attempt, body(*args, **kwargs))


async def in_one_process(attempt: Attempt, called: Awaitable[T]) -> T:
    """What the user's code gives; a process that it has forked ends where that code does."""
    try:
        value = await called
    except BaseException as error:
        if is_left_to_parent(attempt):
            end_fork(error)
        raise
    if is_left_to_parent(attempt):
        end_fork()
    return value
