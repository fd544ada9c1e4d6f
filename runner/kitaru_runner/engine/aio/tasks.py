"""Tasks that a flow makes, on whatever loop it runs: each has a scope of its own, numbered by creation.

As long as an attempt is active, the loops' `create_task` opens one in the branch that calls it. What a loop is run for
is none of these: a plain flow stands still meanwhile, so the main task goes on in the flow's own branch.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import ref
from zlib import crc32

from kitaru_runner.engine.core.calls import Branch, current, this_branch

if TYPE_CHECKING:
    from kitaru_runner.engine.aio.loop import LoopSide

T = TypeVar("T")

_mains: dict[int, Branch] = {}
"""By thread, the branch whose main task an `asyncio.Runner` is about to make."""


class ScopedTask(asyncio.Task[T]):
    """A task whose hash is the same in every attempt: `asyncio.wait` gives sets, and flows iterate over them."""

    def __init__(self, coroutine: Coroutine[Any, Any, T], *, scope: str, **options: Any) -> None:
        self._hash = crc32(scope.encode())
        by = asyncio.current_task(options["loop"])
        self.created_by: Callable[[], asyncio.Task[Any] | None] | None = None if by is None else ref(by)
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self._hash


class InBranch(Coroutine[Any, Any, T]):
    """A coroutine that is in its own branch at each of its steps, although its task shares the context with others."""

    def __init__(self, coroutine: Coroutine[Any, Any, T], branch: Branch) -> None:
        self._coroutine = coroutine
        self._branch: Branch | None = branch

    def send(self, value: Any) -> Any:
        return self._step(self._coroutine.send, value)

    def throw(self, *error: Any) -> Any:
        return self._step(self._coroutine.throw, *error)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, T]:
        raise TypeError("a task's coroutine is nothing to await")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coroutine, name)

    def _step(self, step: Callable[..., Any], *args: Any) -> Any:
        outer = current.get()
        current.set(self._branch)
        try:
            return step(*args)
        finally:
            self._branch = current.get()
            current.set(outer)


def creating(original: Callable[..., asyncio.Task[Any]]) -> Callable[..., asyncio.Task[Any]]:
    @wraps(original)
    def create_task(
        loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        parent = this_branch()
        if parent is None or loop.is_closed():
            return original(loop, coroutine, **options)
        if not loop.is_running() and _mains.pop(threading.get_ident(), None) is not None:
            return make_main(parent, original, loop, coroutine, options)
        side = side_of(parent, loop) if parent.call is None else None
        branch, task = make(parent, original, loop, coroutine, options)
        if side is not None:
            side.made(branch, task)
        return task

    return create_task


def make(
    parent: Branch, original: Callable[..., asyncio.Task[Any]], loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, Any], options: dict[str, Any],
) -> tuple[Branch, asyncio.Task[Any]]:  # fmt: skip
    branch = parent.open("task")
    branch.home = threading.get_ident()
    context = options.pop("context", None)
    if context is not None:
        coroutine = InBranch(coroutine, branch)
    else:
        context = contextvars.copy_context()
        context.run(current.set, branch)
    factory = loop.get_task_factory()
    if factory is None:
        task: asyncio.Task[Any] = ScopedTask(coroutine, scope=branch.scope, loop=loop, context=context, **options)
    elif factory is getattr(asyncio, "eager_task_factory", None):
        task = ScopedTask(coroutine, scope=branch.scope, loop=loop, context=context, **{**options, "eager_start": True})
    elif isinstance(coroutine, InBranch):
        task = original(loop, coroutine, context=context, **options)
    else:
        # A factory of the flow's own may know of no context to be given.
        task = context.run(lambda: original(loop, coroutine, **options))
    branch.task = task
    return branch, task


def make_main(
    branch: Branch, original: Callable[..., asyncio.Task[Any]], loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, Any], options: dict[str, Any],
) -> asyncio.Task[Any]:  # fmt: skip
    """The task that a loop is run for, in the branch that runs it: its context may be a copy of another's."""
    context = options.get("context")
    if (current.get() if context is None else context.get(current)) is not branch:
        coroutine = InBranch(coroutine, branch)
    return original(loop, coroutine, **options)


def running(original: Callable[..., Any]) -> Callable[..., Any]:
    """`run_until_complete` of a loop."""

    @wraps(original)
    def run_until_complete(loop: asyncio.AbstractEventLoop, future: Any) -> Any:
        branch = this_branch()
        if branch is None or loop.is_running() or loop.is_closed():
            return original(loop, future)
        if asyncio.iscoroutine(future):
            with about_to_run(branch):
                future = loop.create_task(future)
        with run_by(branch, loop, future):
            return original(loop, future)

    return run_until_complete


def running_by_runner(original: Callable[..., Any]) -> Callable[..., Any]:
    """`asyncio.Runner.run`."""

    @wraps(original)
    def run(runner: asyncio.Runner, coroutine: Any, **options: Any) -> Any:
        branch = this_branch()
        if branch is None:
            return original(runner, coroutine, **options)
        with about_to_run(branch):
            return original(runner, coroutine, **options)

    return run


@contextmanager
def about_to_run(branch: Branch) -> Iterator[None]:
    me = threading.get_ident()
    _mains[me] = branch
    try:
        yield
    finally:
        _mains.pop(me, None)


@contextmanager
def run_by(branch: Branch, loop: asyncio.AbstractEventLoop, future: Any) -> Iterator[None]:
    """The branch goes on in the task that the loop is run for."""
    outer = branch.task
    if isinstance(future, asyncio.Task):
        branch.task = future
    side = side_of(branch, loop) if branch.call is None else None
    if side is not None and branch.task is not None:
        side.made(branch, branch.task)
    try:
        yield
    except Exception:
        raise
    except BaseException:
        # The process is to end: what is cut short now has no outcome.
        if side is not None:
            side.is_over = True
        raise
    finally:
        branch.task = outer


def side_of(branch: Branch, loop: asyncio.AbstractEventLoop) -> LoopSide:
    from kitaru_runner.engine.aio.loop import side_on

    return side_on(branch.attempt, loop, branch)


_as_completed = asyncio.as_completed


def as_completed(awaitables: Iterable[Any], *, timeout: float | None = None) -> Any:
    """`asyncio.as_completed`. That makes tasks of coroutines in the order of a set, which is another in each process,
    so within a flow they are made here, in the order that they are given in."""
    if this_branch() is not None:
        awaitables = [asyncio.ensure_future(each) for each in dict.fromkeys(awaitables)]
    return _as_completed(awaitables, timeout=timeout)
