"""What other threads bring to a flow's loop: each has its turn among the outcomes, whichever library's thread it is.

All of it comes by `call_soon_threadsafe`. It is known by the task that awaits it, by the call that a pool was given, or
by the thread that brings it; what belongs to none of these comes as it comes.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from kitaru_registry.clock import now_us
from kitaru_registry.journal.entries import Entry, Kind, Opening
from kitaru_registry.journal.keys import scope_of
from kitaru_runner.engine.aio.executors import NAME, ComingBack
from kitaru_runner.engine.aio.turns import Turns, ended
from kitaru_runner.engine.core.calls import Branch, current, scopes
from kitaru_runner.engine.threads.scoping import SCOPE, is_of

branches: WeakKeyDictionary[asyncio.Task[Any], Branch] = WeakKeyDictionary()
"""By task, the branch that it is in; within a checkpoint that of the try."""


class Arrivals:
    """Sees what comes to one loop."""

    def __init__(self, turns: Turns, loop: asyncio.AbstractEventLoop, opening: Opening) -> None:
        self._turns = turns
        self._loop = loop
        self._thread = threading.get_ident()
        self._ended = ended(opening)
        self._scopes = {
            seq: scope_of(key)
            for key, seq in self._ended.items()
            if key.rpartition("/")[2].partition("#")[0] == NAME
        }  # fmt: skip
        self._tasks: WeakValueDictionary[str, asyncio.Task[Any]] = WeakValueDictionary()
        self._call_soon_threadsafe = loop.call_soon_threadsafe
        loop.call_soon_threadsafe = self._come  # type: ignore[method-assign,assignment]  # typeshed's has a TypeVarTuple

    def leave(self) -> None:
        if vars(self._loop).get("call_soon_threadsafe") == self._come:
            del vars(self._loop)["call_soon_threadsafe"]

    def made(self, branch: Branch, task: asyncio.Task[Any]) -> None:
        """That task is in that branch."""
        branches[task] = branch
        self._tasks[branch.scope] = task

    def given(self, scope: str) -> None:
        """A pool was given a call, by this loop's thread."""
        seq = self._ended.get(f"{scope}{NAME}")
        if seq is not None:
            self._turns.expect(seq)

    def is_coming(self, seq: int, turns: Sequence[object]) -> bool:
        """Whether that is sure to come, in a replay: its thread is at work, or its task awaits what is no outcome.

        Args:
            turns: what stands for an outcome.
        """
        scope = self._scopes.get(seq)
        if scope is None:
            return False
        task = self._tasks.get(scope)
        if task is None:
            return any(running.scope == scope for running in list(scopes.values()))
        awaited = getattr(task, "_fut_waiter", None)
        return awaited is not None and not awaited.done() and not any(awaited is turn for turn in turns)

    def _come(
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:  # fmt: skip
        if not self._is_from_elsewhere(callback, args):
            return self._call_soon_threadsafe(callback, *args, context=context)
        branch, key = scopes.get(threading.get_ident()), None
        if branch is not None and self._turns.is_flows(branch) and future_in(callback, args) is None:
            key = branch.call_without_place(NAME).key if branch.has_order else None
        return self._call_soon_threadsafe(self._came, key, callback, args, context=context)

    def _is_from_elsewhere(self, callback: Callable[..., Any], args: Sequence[Any]) -> bool:
        if threading.get_ident() == self._thread:
            # A pool's call that had ended before anybody asked.
            return scope_in(args) is not None
        ours = is_of(callback, ("kitaru_runner",))
        return not ours and not is_of(getattr(threading.current_thread(), "_target", None), ("asyncio",))

    def _came(self, key: str | None, callback: Callable[..., Any], args: Sequence[Any]) -> None:
        branch = None if key is not None else branch_of(callback, args)
        if branch is not None and self._turns.is_flows(branch):
            key = branch.call_without_place(NAME).key
        if key is None:
            callback(*args)
            return
        turn = self._loop.create_future()
        turn.add_done_callback(partial(self._in_turn, callback, args))
        seq = self._ended.get(key)
        if seq is not None:
            self._turns.enlist(seq, turn)
        else:
            self._turns.commit_soon(Entry(Kind.ENDED, key, now_us()), turn)

    def _in_turn(self, callback: Callable[..., Any], args: Sequence[Any], turn: asyncio.Future[None]) -> None:
        # Where it could not be recorded the attempt was halted, and the flow goes on to its end.
        turn.exception()
        callback(*args)


def future_in(callback: Callable[..., Any], args: Sequence[Any]) -> asyncio.Future[Any] | None:
    """What the callback is about to end."""
    for value in (getattr(callback, "__self__", None), *args):
        if asyncio.isfuture(value) and not isinstance(value, asyncio.Task):
            return value
    return None


def branch_of(callback: Callable[..., Any], args: Sequence[Any]) -> Branch | None:
    """Of the call whose end it tells; or of the task, or the code, that waits for what it ends."""
    future = future_in(callback, args)
    if future is None or future.done():
        return None
    waiting = [(each, context) for each, context in getattr(future, "_callbacks", None) or ()]
    if any(isinstance(getattr(each, "__self__", None), ComingBack) for each, _ in waiting):
        return None  # that has a turn of its own
    scope = scope_in(args)
    if scope is not None or not waiting:
        return scope
    first, context = waiting[0]
    task = getattr(first, "__self__", None)
    branch = branches.get(task) if isinstance(task, asyncio.Task) else None
    return branch if branch is not None else context.get(current)


def scope_in(args: Sequence[Any]) -> Branch | None:
    """Of a pool's call, whose future is among the arguments."""
    return next(
        (value.__dict__[SCOPE] for value in args if isinstance(value, Future) and SCOPE in value.__dict__), None
    )
