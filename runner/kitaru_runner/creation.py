"""Where threads begin, and pools are given calls: what the flow creates there has a scope, numbered by creation.

While an execution runs in this process, `Thread.start` and `ThreadPoolExecutor.submit` open one in the branch that
calls them, and so do event loops for their tasks (tasks.py). Elsewhere, and in threads that no flow has created, they
do what they always do; afterwards they are as before. A pool's thread, and one of a library's that passes work on, has
no scope of its own: the work has.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextvars import Context
from functools import partial, wraps
from typing import Any, TypeVar

from kitaru_runner.context import Branch, current, scopes, this_branch
from kitaru_runner.imports import AfterImport

T = TypeVar("T")

OURS = ("kitaru_runner", "kitaru_registry", "kitaru_cli", "kitaru.running", "kitaru.testing")

PASS_ON = ("concurrent", "asyncio", "anyio", "trio", "gevent", "uvloop")
"""Packages whose threads run what they are given, one thing after another."""

WITHOUT_ORDER = ("multiprocessing",)
"""Packages whose threads take their work by turns, and do not say what they were given."""


GIVING = frozenset({"put", "put_nowait"})
TAKING = frozenset({"get", "get_nowait"})
"""What is called of a queue by those who fill it, and by those who take from it."""

SCOPE = "kitaru_scope"
"""Of the future of a call that a pool was given."""

INHERITED = object()


class Creation:
    """Sees threads begin, as long as an engine is active in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._active = 0
        self._replaced: list[tuple[Any, str, Any, Any]] = []
        self._imports = AfterImport({
            "concurrent.futures.thread": self._see_pools, "asyncio": self._see_loops, "uvloop": self._see_uvloop,
        })  # fmt: skip

    def begin(self) -> None:
        with self._lock:
            self._active += 1
            if self._active == 1:
                self._replace(threading.Thread, "start", starting)
                self._imports.begin()

    def end(self) -> None:
        with self._lock:
            self._active -= 1
            if self._active:
                return
            self._imports.end()
            while self._replaced:
                where, name, before, now = self._replaced.pop()
                # Somebody may have put something around it since: that goes on to call the original.
                if vars(where).get(name) is not now:
                    continue
                if before is INHERITED:
                    delattr(where, name)
                else:
                    setattr(where, name, before)

    def _see_pools(self) -> None:
        self._replace(sys.modules["concurrent.futures.thread"].ThreadPoolExecutor, "submit", submitting)

    def _see_loops(self) -> None:
        import asyncio

        from kitaru_runner import tasks

        self._replace(asyncio.BaseEventLoop, "create_task", tasks.creating)
        self._replace(asyncio.BaseEventLoop, "run_until_complete", tasks.running)
        self._replace(asyncio.Runner, "run", tasks.running_by_runner)
        for module in (asyncio, asyncio.tasks):
            self._replace(module, "as_completed", lambda _: tasks.as_completed)

    def _see_uvloop(self) -> None:
        from kitaru_runner import tasks

        loop = sys.modules["uvloop"].Loop
        self._replace(loop, "create_task", tasks.creating)
        self._replace(loop, "run_until_complete", tasks.running)

    def _replace(self, where: Any, name: str, make: Callable[[Any], Any]) -> None:
        now = make(getattr(where, name))
        self._replaced.append((where, name, vars(where).get(name, INHERITED), now))
        setattr(where, name, now)


creation = Creation()


def starting(original: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    @wraps(original)
    def start(thread: threading.Thread) -> None:
        branch = this_branch()
        if branch is not None:
            function, args = work_of(thread)
            if is_of(function, WITHOUT_ORDER):
                thread.run = partial(run_in, branch.unordered(), thread.run)  # type: ignore[method-assign]
            elif not is_of(function, (*OURS, *PASS_ON)):
                scope = scope_for(branch, function, args)
                thread.run = partial(run_in, scope, thread.run)  # type: ignore[method-assign]
        original(thread)

    return start


def submitting(original: Callable[..., Future[Any]]) -> Callable[..., Future[Any]]:
    @wraps(original)
    def submit(pool: Any, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        branch = this_branch()
        if branch is None:
            return original(pool, function, *args, **kwargs)
        scope = scope_for(branch, *peeled(function, args))
        # So that a thread that the pool starts now is none of this branch's.
        token = current.set(None)
        try:
            future = original(pool, run_in, scope, function, *args, **kwargs)
        finally:
            current.reset(token)
        future.__dict__[SCOPE] = scope
        branch.engine.loops.given(scope)
        return future

    return submit


def run_in(scope: Branch, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """Call it in this thread, in a scope that was opened for that; also where it goes on in a copy of the context."""
    me = threading.get_ident()
    before = scopes.get(me)
    scopes[me], scope.home = scope, me
    token = current.set(scope)
    try:
        return function(*args, **kwargs)
    finally:
        current.reset(token)
        if before is None:
            del scopes[me]
        else:
            scopes[me] = before
        scope.engine.parking.uncount(me)


def scope_for(branch: Branch, function: Any, args: Sequence[Any]) -> Branch:
    scope = branch.open_thread(name_of(function))
    if scope.family is not None and takes_turns(function, args):
        scope.family.takes_turns(scope)
    return scope


def work_of(thread: threading.Thread) -> tuple[Any, Sequence[Any]]:
    """What a thread is about to call, and with what; the thread itself, where its class says."""
    if type(thread).run is not threading.Thread.run:
        return thread, ()
    return peeled(getattr(thread, "_target", None), getattr(thread, "_args", ()))


def peeled(function: Any, args: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
    """A call without what only wraps it: `partial`, `copy_context().run`."""
    while True:
        if isinstance(function, partial):
            function, args = function.func, (*function.args, *args)
        elif isinstance(getattr(function, "__self__", None), Context) and function.__name__ == "run" and args:
            function, args = args[0], args[1:]
        else:
            return function, args


def is_of(function: Any, modules: Sequence[str]) -> bool:
    """Whether it is from one of these modules, or from one within them."""
    module = getattr(function, "__module__", None)
    return isinstance(module, str) and any(f"{module}.".startswith(f"{name}.") for name in modules)


def name_of(function: Any) -> str:
    name = getattr(function, "__name__", None) or type(function).__name__
    return "".join(letter for letter in str(name) if letter not in "/#![]<>:")


def takes_turns(function: Any, args: Sequence[Any]) -> bool:
    """Whether a call seems to take its work from a queue, which is among its arguments or what its function knows."""
    function = getattr(function, "__wrapped__", function)
    owner = getattr(function, "__self__", function if isinstance(function, threading.Thread) else None)
    code = getattr(type(owner).run if isinstance(owner, threading.Thread) else function, "__code__", None)
    if code is None or (GIVING.intersection(code.co_names) and not TAKING.intersection(code.co_names)):
        return False
    known = [*args, *getattr(owner, "__dict__", {}).values()]
    known += [cell.cell_contents for cell in getattr(function, "__closure__", None) or () if not is_empty(cell)]
    names = getattr(function, "__globals__", {})
    known += [names[name] for name in code.co_names if name in names]
    return any(is_source(value) for value in known)


def is_empty(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018  # raises where nothing was put in
    except ValueError:
        return True
    return False


def is_source(value: Any) -> bool:
    """Whether several may take from it by turns: a queue, an iterator that is no file."""
    kind = type(value)
    return (hasattr(kind, "put") and hasattr(kind, "get")) or (hasattr(kind, "__next__") and not hasattr(kind, "read"))
