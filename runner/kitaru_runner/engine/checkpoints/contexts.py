"""A try's context variables, a copy of its caller's: what it sets there is its own, as a replay sets nothing."""

from __future__ import annotations

import decimal
import types
from collections.abc import Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from typing import Any

from kitaru_runner.engine.core.calls import Branch, current


def context_of_try(branch: Branch) -> Context:
    """A copy of the caller's context, in which the branch is that of the try."""
    context = copy_context()
    context.run(begin, branch)
    return context


def begin(branch: Branch) -> None:
    current.set(branch)
    # The one that is there is changed in place: `decimal.getcontext().prec = 5`.
    precision = PRECISION.get(None)
    if precision is not None:
        PRECISION.set(precision.copy())


def variable_of_decimal() -> ContextVar[decimal.Context]:
    """The variable in which `decimal` keeps its context, from the first use of that in a context of its own."""
    own = Context()
    own.run(decimal.getcontext)
    return next(iter(own))


PRECISION = variable_of_decimal()


@types.coroutine
def in_context(context: Context, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """What the coroutine returns: each of its steps in that context, in the task that awaits this."""
    step, given = coroutine.send, None
    while True:
        try:
            told = context.run(step, given)
        except StopIteration as end:
            return end.value
        try:
            step, given = coroutine.send, (yield told)
        except GeneratorExit:
            context.run(coroutine.close)
            raise
        except BaseException as error:
            step, given = coroutine.throw, error
