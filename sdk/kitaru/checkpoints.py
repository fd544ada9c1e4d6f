"""`@checkpoint`: a unit of work whose outcome is recorded once, and never executed again."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from kitaru.execution import loop_is_running
from kitaru_registry.errors import KitaruUsageError
from kitaru_runner.context import Branch, branch_of_call, current
from kitaru_runner.engine import CheckpointSpec
from kitaru_runner.futures import CheckpointFuture

P = ParamSpec("P")
R = TypeVar("R")


class Checkpoint(Generic[P, R]):
    """A decorated function. Outside of a flow it is the plain function."""

    def __init__(self, function: Callable[P, R], *, retries: int = 0, type: str | None = None) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.is_async = inspect.iscoroutinefunction(function)
        signature = inspect.signature(function)
        names = tuple(signature.parameters)
        plain = all(p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for p in signature.parameters.values())

        def bind(*args: Any, **kwargs: Any) -> Mapping[str, object]:
            if plain and not kwargs and len(args) == len(names):
                return dict(zip(names, args, strict=True))
            return signature.bind(*args, **kwargs).arguments

        name = getattr(function, "__name__", "checkpoint")
        self.spec = CheckpointSpec(name.strip("<>"), retries, type, bind)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The recorded outcome, or that of executing the function now.

        Keyword `id`: the call's own name in the journal, instead of the function's name and ordinal.
        """
        branch = branch_of_call(self.spec.name)
        if branch is None:
            return self.function(*args, **kwargs)
        id_ = take_id(kwargs)
        if self.is_async:
            return cast(R, self._on_loop(args, kwargs, id_))
        result: R = branch.engine.checkpoint(branch, self.spec, self.function, args, kwargs, id_=id_)
        return result

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> CheckpointFuture[R]:
        """Start the function beside the flow, and go on; `future.result()` or `await future` gives its outcome.

        Outside of a flow the function is called at once.
        """
        branch = branch_of_call(self.spec.name)
        if branch is None:
            return self._plain_future(args, kwargs)
        return self._submit_in(branch.open("submit"), args, kwargs)

    def map(self, *iterables: Iterable[Any], **kwargs: Any) -> list[CheckpointFuture[R]]:
        """A future for each element, as `submit`; several iterables go side by side and must be equally long."""
        elements = list(zip(*iterables, strict=True))
        branch = branch_of_call(self.spec.name)
        if branch is None:
            return [self._plain_future(element, dict(kwargs)) for element in elements]
        scopes = branch.open_map(len(elements))
        return [self._submit_in(scope, element, dict(kwargs)) for scope, element in zip(scopes, elements, strict=True)]

    def __get__(self, instance: object, owner: type | None = None) -> Checkpoint[..., R]:
        """A method's checkpoint: `self` is its first argument."""
        if instance is None:
            return self
        bound: Callable[..., R] = functools.partial(cast(Callable[..., R], self.function), instance)
        functools.update_wrapper(bound, self.function)
        return Checkpoint(bound, retries=self.spec.retries, type=self.spec.type)

    def _submit_in(self, scope: Branch, args: Any, kwargs: dict[str, Any]) -> CheckpointFuture[R]:
        id_ = take_id(kwargs)
        if self.is_async and loop_is_running():
            return self._submit_on_loop(scope, args, kwargs, id_)
        function: Callable[..., Any] = self._run_to_end if self.is_async else self.function
        return scope.engine.submit(scope, self.spec, function, args, kwargs, id_=id_)

    def _on_loop(self, args: Any, kwargs: Any, id_: str | None) -> Any:
        from kitaru_runner.engine_async import run_checkpoint

        function = cast(Callable[..., Awaitable[Any]], self.function)
        return run_checkpoint(self.spec, function, args, kwargs, id_=id_)

    def _submit_on_loop(self, scope: Branch, args: Any, kwargs: Any, id_: str | None) -> CheckpointFuture[R]:
        import asyncio

        future: CheckpointFuture[R] = CheckpointFuture()

        async def work() -> None:
            # The element's scope is its own, not one more for this task.
            current.set(scope)
            try:
                value = await self._on_loop(args, kwargs, id_)
            except BaseException as error:
                future.set_exception(error)
                if not isinstance(error, Exception):
                    raise
            else:
                future.set_result(value)

        token = current.set(None)
        try:
            task = asyncio.get_running_loop().create_task(work())
        finally:
            current.reset(token)
        scope.engine.keep(task)
        return future

    def _run_to_end(self, *args: Any, **kwargs: Any) -> Any:
        import asyncio

        return asyncio.run(self.function(*args, **kwargs))  # type: ignore[arg-type]  # is_async

    def _plain_future(self, args: Any, kwargs: Any) -> CheckpointFuture[R]:
        future: CheckpointFuture[R] = CheckpointFuture()
        try:
            future.set_result(self._run_to_end(*args, **kwargs) if self.is_async else self.function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def take_id(kwargs: dict[str, Any]) -> str | None:
    id_ = kwargs.pop("id", None)
    if id_ is not None and (not isinstance(id_, str) or not id_ or "/" in id_):
        raise KitaruUsageError(f"id={id_!r} cannot name a call", hint="give a text without '/'")
    return id_


@overload
def checkpoint(function: Callable[P, R], /) -> Checkpoint[P, R]: ...
@overload
def checkpoint(*, retries: int = 0, type: str | None = None) -> Callable[[Callable[P, R]], Checkpoint[P, R]]: ...
def checkpoint(
    function: Callable[P, R] | None = None, /, *, retries: int = 0, type: str | None = None
) -> Checkpoint[P, R] | Callable[[Callable[P, R]], Checkpoint[P, R]]:
    """Make a function, plain or `async def`, a checkpoint of the flows that call it.

    Args:
        retries: how often it is tried again after an exception, at once; each failed try is recorded.
        type: a label to show and to filter by, such as `llm_call` or `tool_call`.

    Raises:
        KitaruUsageError: retries below 0.
    """
    if not isinstance(retries, int) or retries < 0:
        raise KitaruUsageError(f"retries={retries!r} is not a number of retries", hint="give 0 or more")
    if function is not None:
        return Checkpoint(function, retries=retries, type=type)

    def decorate(function: Callable[P, R]) -> Checkpoint[P, R]:
        return Checkpoint(function, retries=retries, type=type)

    return decorate
