"""Where threads begin, and pools are given calls: what the flow creates there has a scope, numbered by creation.

While an execution runs in this process, `Thread.start` and `ThreadPoolExecutor.submit` open one in the branch that
calls them, and so do event loops for their tasks (tasks.py). Elsewhere, and in threads that no flow has created, they
do what they always do; afterwards they are as before. A pool's thread, and one of a library's that passes work on, has
no scope of its own: the work has.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial, wraps
from typing import Any, TypeVar

from kitaru_runner.engine.body.imports import AfterImport
from kitaru_runner.engine.core.calls import current, this_branch
from kitaru_runner.engine.threads.scoping import SCOPE, is_of, peeled, run_in, scope_for, work_of

T = TypeVar("T")

OURS = ("kitaru_runner", "kitaru_registry", "kitaru_cli", "kitaru.running", "kitaru.testing")

PASS_ON = ("concurrent", "asyncio", "anyio", "trio", "gevent", "uvloop")
"""Packages whose threads run what they are given, one thing after another."""

WITHOUT_ORDER = ("multiprocessing",)
"""Packages whose threads take their work by turns, and do not say what they were given."""


INHERITED = object()


class Creation:
    """Sees threads begin, as long as an attempt is active in this process."""

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

        from kitaru_runner.engine.aio import tasks

        self._replace(asyncio.BaseEventLoop, "create_task", tasks.creating)
        self._replace(asyncio.BaseEventLoop, "run_until_complete", tasks.running)
        self._replace(asyncio.Runner, "run", tasks.running_by_runner)
        for module in (asyncio, asyncio.tasks):
            self._replace(module, "as_completed", lambda _: tasks.as_completed)

    def _see_uvloop(self) -> None:
        from kitaru_runner.engine.aio import tasks

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
        branch.attempt.loops.given(scope.scope)
        return future

    return submit
