"""Calls of `.submit` and `.map` in threads: each waits for what it depends on, then for room, then executes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any

from kitaru_registry.journal.entries import Entry
from kitaru_registry.journal.keys import Call
from kitaru_runner.engine.checkpoints.call import execute, executed, record, replayed
from kitaru_runner.engine.checkpoints.digest_only import Remaking
from kitaru_runner.engine.checkpoints.other_arguments import check_arguments
from kitaru_runner.engine.checkpoints.tries import Executed, not_called
from kitaru_runner.engine.core.attempt import Attempt
from kitaru_runner.engine.core.calls import Branch, current
from kitaru_runner.engine.core.lanes import Lane, Lanes, Slot
from kitaru_runner.engine.core.passing import is_live
from kitaru_runner.engine.core.recorded import failed_key
from kitaru_runner.engine.core.specs import Work
from kitaru_runner.engine.threads.futures import CheckpointFuture, Deliveries, futures_in, with_values
from kitaru_runner.engine.threads.pool import Pool
from kitaru_runner.values.arguments import digest_inputs

POOL_THREADS = 128


class Room:
    """Where the calls of one attempt execute, and how many at once."""

    def __init__(self, attempt: Attempt) -> None:
        self.lanes = Lanes(attempt.pace)
        self.pool = Pool(POOL_THREADS, attempt.pace)


def submit(
    branch: Branch, work: Work, *, after: Sequence[CheckpointFuture[Any]] = (), lanes: Sequence[Lane] = (),
    id_: str | None = None,
) -> CheckpointFuture[Any]:  # fmt: skip
    """A future of the call's outcome; `branch` is the scope that was opened for it.

    Args:
        after: what is to end first. Futures among the arguments are too, and their values are passed.
        lanes: each limits how many calls execute at once.
    """
    call = branch.place(work.spec.name, id_, "checkpoint")
    attempt = branch.attempt
    deliveries = attempt.its(Deliveries)
    future: CheckpointFuture[Any] = CheckpointFuture(deliveries, key=call.key)
    first = (*after, *futures_in(work))
    inputs = b"" if first else digest_inputs(work.arguments())
    entry = attempt.recorded.find(call, inputs)
    if entry is None or (entry.soft and first):
        Submission(call, branch, work, future, first, lanes).begin()
        return future
    future.failed = failed_key(entry)
    if not first:
        check_arguments(attempt, call, entry, inputs, work.arguments)
    deliveries.recorded(future, entry.seq, lambda: known(branch, call, entry, with_values(work, first)))
    return future


def known(branch: Branch, call: Call, entry: Entry, work: Work) -> Any:
    """The outcome of an earlier attempt."""
    again = branch.attempt.its(Remaking).again
    return replayed(branch.attempt, entry, lambda: again(entry, call, work, branch))


class Submission:
    """One such call. It is in flight from the beginning: whoever submitted it counts on its outcome."""

    def __init__(
        self, call: Call, branch: Branch, work: Work, future: CheckpointFuture[Any],
        first: Sequence[CheckpointFuture[Any]], lanes: Sequence[Lane],
    ) -> None:  # fmt: skip
        self._attempt = branch.attempt
        self._room = branch.attempt.its(Room)
        self._deliveries = branch.attempt.its(Deliveries)
        self._call = call
        self._branch = branch
        self._work = work
        self._future = future
        self._first = first
        self._slot = Slot(self._room.lanes, lanes)
        self._context = copy_context()
        self._context.run(current.set, branch)

    def begin(self) -> None:
        self._attempt.parking.begin()
        self._attempt.pace.point()
        if self._first:
            self._room.pool.submit(self._follow)
        else:
            self._queue()

    def _follow(self) -> None:
        """Begin after others, in no lane meanwhile: one of them may still have to go through the same."""
        parking = self._attempt.parking
        parking.own()
        try:
            self._work = self._context.run(with_values, self._work, self._first)
        except BaseException as error:
            try:
                self._prevent(error)
            finally:
                parking.end()
        else:
            self._queue()
        finally:
            parking.disown()

    def _prevent(self, error: BaseException) -> None:
        if not self._future.set_running_or_notify_cancel():
            return
        try:
            if not isinstance(error, Exception) or is_live(error):
                raise error
            self._context.run(self._record_prevented, error)
        except BaseException as failure:
            self._end(failure)

    def _end(self, error: BaseException) -> None:
        """Let whoever asks hear why there is no outcome; where it was recorded before that error, of the outcome."""
        if self._future.seq is None:
            self._future.set_exception(error)
        else:
            self._deliveries.deliver(self._future)

    def _queue(self) -> None:
        self._slot.enter(lambda: self._room.pool.submit(self._execute))

    def _execute(self) -> None:
        parking = self._attempt.parking
        parking.own()
        try:
            if self._future.set_running_or_notify_cancel():
                self._context.run(self._find_or_execute)
        except BaseException as error:
            self._end(error)
        finally:
            parking.disown()
            parking.end()
            self._slot.leave()

    def _find_or_execute(self) -> None:
        attempt, call, work, branch = self._attempt, self._call, self._work, self._branch
        inputs = digest_inputs(work.arguments())
        entry = attempt.recorded.find(call, inputs)
        if entry is None:
            execute(branch, call, work, inputs, self._commit, self._slot)
            return
        if entry.soft:
            attempt.note_use(entry)
        self._deliver(entry, partial(known, branch, call, entry, work))

    def _record_prevented(self, error: Exception) -> None:
        """Record that another one's failure keeps the call from being made: it has its place among the ends."""
        entry = self._attempt.recorded.find(self._call)
        if entry is None:
            record(self._attempt, Executed(not_called(self._call, self._work.spec, error)), self._commit)
        else:
            self._deliver(entry, partial(self._attempt.outcome, entry))

    def _deliver(self, entry: Entry, read: Callable[[], Any]) -> None:
        self._future.failed = failed_key(entry)
        self._deliveries.recorded(self._future, entry.seq, read)
        self._deliveries.deliver(self._future)

    def _commit(self, attempt: Attempt, ended: Executed) -> Executed:
        """Record an outcome; the future resolves when its turn comes."""
        self._future.failed = failed_key(ended.entry)
        read = partial(executed, attempt, ended)
        attempt.commit([ended.entry], lambda seq: self._deliveries.recorded(self._future, seq, read))
        self._deliveries.deliver(self._future)
        return ended
