"""The threads that a flow's body awaits: the end of each is recorded, and has its turn among the outcomes.

`asyncio.to_thread` and `loop.run_in_executor` of a flow's body execute in every attempt, for what they do is no
checkpoint. When they come back is part of the way that the flow took: in a replay they come back in the same place.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from kitaru_registry.clock import now_us
from kitaru_registry.journal.entries import Entry, Kind, Opening
from kitaru_runner.engine.aio.turns import Turns, ended
from kitaru_runner.engine.core.calls import current, scopes, this_branch
from kitaru_runner.engine.core.parking import Parking
from kitaru_runner.engine.threads.scoping import peeled, run_in, scope_for

T = TypeVar("T")

NAME = "asyncio:thread"
"""Stands for itself in keys: no checkpoint can have it."""


class Threads:
    """Runs what a flow's loop gives to threads and processes of the flow's own."""

    def __init__(self, turns: Turns, loop: asyncio.AbstractEventLoop, opening: Opening, parking: Parking) -> None:
        self._turns = turns
        self._loop = loop
        self._parking = parking
        self._ended = ended(opening)
        self._run_in_executor = loop.run_in_executor
        try:
            # Where to_thread comes by.
            loop.run_in_executor = self._run  # type: ignore[method-assign,assignment]  # typeshed's has a TypeVarTuple
        except AttributeError:  # uvloop's cannot be replaced: its threads come back as they do
            pass

    def _run(self, executor: Executor | None, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        branch = this_branch()
        # It is awaited where it is called, so what it calls is called in that task's own order.
        stands = sys._getframe(1).f_code is asyncio.to_thread.__code__
        if branch is None or not self._turns.is_flows(branch):
            return self._begin(stands, executor, func, *args)
        key = branch.call_without_place(NAME).key
        if executor is None or isinstance(executor, ThreadPoolExecutor):
            if not stands:
                func = partial(run_in, scope_for(branch, *peeled(func, args)), func)
            func = partial(self._owned, func)
        self._parking.begin()
        try:
            running = self._begin(True, executor, func, *args)
        except BaseException:
            self._parking.end()
            raise
        running.add_done_callback(lambda _: self._parking.end())
        return ComingBack(self._turns, key, self._ended.get(key), running).future

    def _begin(
        self, has_scope: bool, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """
        Args:
            has_scope: the pool opens none for it.
        """
        if not has_scope:
            return self._run_in_executor(executor, func, *args)
        me = threading.get_ident()
        token, scope = current.set(None), scopes.pop(me, None)
        try:
            return self._run_in_executor(executor, func, *args)
        finally:
            current.reset(token)
            if scope is not None:
                scopes[me] = scope

    def leave(self) -> None:
        if vars(self._loop).get("run_in_executor") == self._run:
            del vars(self._loop)["run_in_executor"]

    def _owned(self, func: Callable[..., T], *args: Any) -> T:
        """Call it as a thread that is in flight, and may step aside."""
        self._parking.own()
        try:
            return func(*args)
        finally:
            self._parking.disown()


class ComingBack:
    """One of them, on its way back. `future` has its outcome, in its turn."""

    def __init__(self, turns: Turns, key: str, seq: int | None, running: asyncio.Future[Any]) -> None:
        self._turns = turns
        self._key = key
        self._seq = seq
        self._running = running
        self._turn: asyncio.Future[None] = running.get_loop().create_future()
        self.future: asyncio.Future[Any] = running.get_loop().create_future()
        if seq is not None:
            turns.expect(seq)
        running.add_done_callback(self._ended)
        self._turn.add_done_callback(self._in_turn)
        self.future.add_done_callback(self._given_up)

    def _ended(self, _: object) -> None:
        if self._turn.done():
            return
        if self._seq is not None:
            self._turns.enlist(self._seq, self._turn)
        else:
            self._turns.commit_soon(Entry(Kind.ENDED, self._key, now_us()), self._turn)

    def _in_turn(self, turn: asyncio.Future[None]) -> None:
        if turn.cancelled() or self.future.done():
            return
        error = turn.exception() or (None if self._running.cancelled() else self._running.exception())
        if self._running.cancelled():
            self.future.cancel()
        elif error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(self._running.result())

    def _given_up(self, future: asyncio.Future[Any]) -> None:
        """Nobody awaits it any more, where it was cancelled: nothing has to wait for its turn."""
        if future.cancelled() and not self._turn.done():
            self._turn.cancel()
            self._running.cancel()
            if self._seq is not None:
                self._turns.enlist(self._seq, self._turn)
