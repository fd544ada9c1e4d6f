"""Calls of `.submit` and `.map` in threads: each waits for what it depends on, then for room, then executes."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from kitaru_runner.context import Branch, Call, current
from kitaru_runner.futures import CheckpointFuture, with_values
from kitaru_runner.lanes import Lane, Slot
from kitaru_runner.passing import is_live
from kitaru_runner.specs import Work

if TYPE_CHECKING:
    from kitaru_runner.engine import Engine


class Submission:
    """One such call. It is in flight from the beginning: whoever submitted it counts on its outcome."""

    def __init__(
        self, engine: Engine, call: Call, branch: Branch, work: Work, future: CheckpointFuture[Any],
        first: Sequence[CheckpointFuture[Any]], lanes: Sequence[Lane],
    ) -> None:  # fmt: skip
        self._engine = engine
        self._call = call
        self._branch = branch
        self._work = work
        self._future = future
        self._first = first
        self._slot = Slot(engine.lanes, lanes)
        self._context = copy_context()
        self._context.run(current.set, branch)

    def begin(self) -> None:
        self._engine.parking.begin()
        self._engine.pace.point()
        if self._first:
            self._engine.pool.submit(self._follow)
        else:
            self._queue()

    def _follow(self) -> None:
        """Begin after others, in no lane meanwhile: one of them may still have to go through the same."""
        parking = self._engine.parking
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
            self._context.run(self._engine.prevented, self._call, self._work.spec, error, self._future)
        except BaseException as failure:
            self._end(failure)

    def _end(self, error: BaseException) -> None:
        """Let whoever asks hear why there is no outcome; where it was recorded before that error, of the outcome."""
        if self._future.seq is None:
            self._future.set_exception(error)
        else:
            self._engine.deliveries.deliver(self._future)

    def _queue(self) -> None:
        self._slot.enter(lambda: self._engine.pool.submit(self._execute))

    def _execute(self) -> None:
        parking = self._engine.parking
        parking.own()
        try:
            if self._future.set_running_or_notify_cancel():
                self._context.run(
                    self._engine.execute_submitted, self._call, self._work, self._branch, self._future, self._slot
                )
        except BaseException as error:
            self._end(error)
        finally:
            parking.disown()
            parking.end()
            self._slot.leave()
