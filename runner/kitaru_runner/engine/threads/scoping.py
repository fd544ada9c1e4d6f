"""The scope of what a thread, or a pool, is about to call: opened where that is created, entered where it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextvars import Context
from functools import partial
from typing import Any, TypeVar

from kitaru_runner.engine.core.calls import Branch, current, scopes

T = TypeVar("T")

GIVING = frozenset({"put", "put_nowait"})
TAKING = frozenset({"get", "get_nowait"})
"""What is called of a queue by those who fill it, and by those who take from it."""

SCOPE = "kitaru_scope"
"""Of the future of a call that a pool was given."""


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
        scope.attempt.parking.uncount(me)


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
