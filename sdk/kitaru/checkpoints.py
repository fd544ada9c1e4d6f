"""`@checkpoint`: a unit of work whose outcome is recorded once, and never executed again."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from threading import get_ident
from typing import Any, Generic, Literal, ParamSpec, TypeVar, cast, overload

from kitaru.decorating import Decorated, own_name, require_function, signature_of
from kitaru.execution import loop_is_running
from kitaru_registry.errors import KitaruUsageError
from kitaru_registry.names import check_text, told
from kitaru_runner.engine.checkpoints.call import checkpoint as checkpoint_in
from kitaru_runner.engine.core.calls import Branch, branch_of_call, current
from kitaru_runner.engine.core.lanes import Lane
from kitaru_runner.engine.core.specs import (
    YEAR,
    Backoff,
    CheckpointSpec,
    RetryOn,
    Work,
    is_coroutine_function,
    run_work,
)
from kitaru_runner.engine.threads.futures import CheckpointFuture, futures_in, with_values
from kitaru_runner.engine.threads.submit import submit
from kitaru_runner.values.signatures import parameters_of

P = ParamSpec("P")
R = TypeVar("R")


class Checkpoint(Decorated, Generic[P, R]):
    """A decorated function. Outside of a flow it is the plain function."""

    decorator = "@checkpoint"

    def __init__(self, function: Callable[P, R], spec: CheckpointSpec) -> None:
        functools.update_wrapper(self, function)
        # A partial has none.
        self.__name__ = getattr(function, "__name__", spec.name)
        self.function = function
        self.is_async = is_coroutine_function(function)
        self.spec = spec
        # A parameter of the function's own goes to the function.
        self._takes = frozenset(parameters_of(function))

    @property
    def __code__(self) -> Any:
        """The function's: by it `inspect`, and with that many a framework, tells whether a call is to be awaited."""
        function: Any = self.function
        while isinstance(function, functools.partial):
            function = function.func
        return function.__code__

    @property
    def __defaults__(self) -> None:
        """None, as `inspect` wants to see it of whatever has a `__code__`."""

    __kwdefaults__ = __defaults__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The recorded outcome, or that of executing the function now.

        Futures of `.submit` and `.map` among the arguments are passed as their values.

        Keyword `id`: the call's own name in the journal, instead of the function's name and ordinal. Keyword `after`:
        a future, or several, that are to end well first. A parameter of the function's own goes before both.
        """
        branch = branch_of_call(self.spec.name)
        id_, after = self._options(kwargs) if kwargs else (None, ())
        work = Work(self.spec, self.function, args, kwargs)
        if branch is not None and self.is_async:
            return cast(R, self._on_loop(work, id_, (), after))
        first = (*after, *futures_in(work))
        if first:
            work = with_values(work, first)
        result: R = run_work(work) if branch is None else checkpoint_in(branch, work, id_=id_)
        return result

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> CheckpointFuture[R]:
        """Start the function beside the flow, and go on; `future.result()` or `await future` gives its outcome.

        Outside of a flow the function is called at once.
        """
        branch = branch_of_call(self.spec.name)
        if branch is None:
            return self._plain_future(args, kwargs)
        return self._submit_in(branch.open("submit"), args, kwargs)

    def map(
        self, *iterables: Iterable[Any], max_concurrency: int | None = None, **kwargs: Any
    ) -> list[CheckpointFuture[R]]:
        """A future for each element, as `submit`; several iterables go side by side and must be equally long.

        Args:
            max_concurrency: at most so many of these calls execute at once.
        """
        elements = combined(f"{self.spec.name}.map", functools.partial(zip, strict=True), iterables)
        return self._map(elements, max_concurrency, kwargs)

    def product(
        self, *iterables: Iterable[Any], max_concurrency: int | None = None, **kwargs: Any
    ) -> list[CheckpointFuture[R]]:
        """A future for each combination of elements, the last iterable changing fastest; else as `map`."""
        elements = combined(f"{self.spec.name}.product", itertools.product, iterables)
        return self._map(elements, max_concurrency, kwargs)

    def _map(self, elements: list[Any], limit: int | None, kwargs: dict[str, Any]) -> list[CheckpointFuture[R]]:
        check_count("max_concurrency", limit)
        branch = branch_of_call(self.spec.name)
        if branch is None:
            return [self._plain_future(element, dict(kwargs)) for element in elements]
        scopes = branch.open_map(len(elements))
        lanes = (Lane(scopes[0].scope, limit),) if scopes and limit is not None else ()
        return [
            self._submit_in(scope, element, dict(kwargs), lanes)
            for scope, element in zip(scopes, elements, strict=True)
        ]

    def __get__(self, instance: object, owner: type | None = None) -> Checkpoint[..., R]:
        """A method's checkpoint: `self` is its first argument."""
        if instance is None:
            return self
        bound: Callable[..., R] = functools.partial(cast(Callable[..., R], self.function), instance)
        functools.update_wrapper(bound, self.function)
        # The object is an argument like others: other objects, other inputs.
        return Checkpoint(bound, replace(self.spec, bind=functools.partial(self.spec.bind, instance)))

    def _options(self, kwargs: dict[str, Any]) -> tuple[str | None, Sequence[CheckpointFuture[Any]]]:
        """`id=` and `after=`, taken out of the arguments."""
        id_ = None if "id" in self._takes else take_id(kwargs)
        return id_, () if "after" in self._takes else take_after(kwargs)

    def _lanes(self, lanes: Sequence[Lane]) -> Sequence[Lane]:
        """With that of the decorator: both limits hold."""
        limit = self.spec.max_concurrency
        return lanes if limit is None else (*lanes, Lane(self.spec.identity, limit))

    def _submit_in(
        self, scope: Branch, args: Any, kwargs: dict[str, Any], lanes: Sequence[Lane] = ()
    ) -> CheckpointFuture[R]:
        id_, after = self._options(kwargs)
        work = Work(self.spec, self.function, args, kwargs)
        if self.is_async and loop_is_running():
            return self._submit_on_loop(scope, work, after, lanes, id_)
        if self.is_async and not self.spec.isolated:
            work = work._replace(function=self._run_to_end)
        return submit(scope, work, after=after, lanes=self._lanes(lanes), id_=id_)

    def _on_loop(
        self, work: Work, id_: str | None, lanes: Sequence[Lane], after: Sequence[CheckpointFuture[Any]]
    ) -> Any:
        from kitaru_runner.engine.aio.calling import run_checkpoint

        return run_checkpoint(work, id_=id_, lanes=self._lanes(lanes), after=after)

    def _submit_on_loop(
        self, scope: Branch, work: Work, after: Sequence[CheckpointFuture[Any]], lanes: Sequence[Lane], id_: str | None
    ) -> CheckpointFuture[R]:
        import asyncio

        future: CheckpointFuture[R] = CheckpointFuture(pace=scope.attempt.pace)

        async def execute() -> None:
            # The element's scope is its own, not one more for this task.
            current.set(scope)
            scope.task, scope.home = asyncio.current_task(), get_ident()
            try:
                value = await self._on_loop(work, id_, lanes, after)
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                scope.attempt.unconsumed.holds(future, error)
                future.set_exception(error)
                if not isinstance(error, Exception):
                    raise
            else:
                future.set_result(value)

        token = current.set(None)
        try:
            task = asyncio.get_running_loop().create_task(execute())
        finally:
            current.reset(token)
        scope.attempt.loops.keep(task)
        future.give_up = task.cancel
        # Also one that was cancelled before it began.
        task.add_done_callback(future.given_up)
        return future

    def _run_to_end(self, *args: Any, **kwargs: Any) -> Any:
        import asyncio

        return asyncio.run(self.function(*args, **kwargs))  # type: ignore[arg-type]  # is_async

    def _plain_future(self, args: Any, kwargs: Any) -> CheckpointFuture[R]:
        future: CheckpointFuture[R] = CheckpointFuture()
        _, after = self._options(kwargs)
        try:
            work = Work(self.spec, self._run_to_end if self.is_async else self.function, args, kwargs)
            future.set_result(run_work(with_values(work, (*after, *futures_in(work)))))
        except Exception as error:
            future.set_exception(error)
        return future


def combined(called: str, combine: Callable[..., Iterable[Any]], iterables: Sequence[Iterable[Any]]) -> list[Any]:
    """The arguments of each call.

    Raises:
        KitaruUsageError: there is nothing to go through, or not equally much.
    """
    if not iterables:
        raise KitaruUsageError(
            f"{called}() has nothing to go through",
            hint=f"give the elements by position: {called}([1, 2]); keywords are the same for each call",
        )
    for given in iterables:
        try:
            iter(given)
        except TypeError as error:
            raise KitaruUsageError(
                f"{called}() cannot go through a value of type {type(given).__name__}",
                hint="give a list; of a future, its result()",
            ) from error
    try:
        return list(combine(*iterables))
    except ValueError as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
            raise  # in a generator of the caller's own
        raise KitaruUsageError(
            f"{called}() got iterables that are not equally long", hint="each call takes one element of each"
        ) from error


def take_id(kwargs: dict[str, Any]) -> str | None:
    id_ = kwargs.pop("id", None)
    if id_ is not None and (not isinstance(id_, str) or not id_ or any(mark in id_ for mark in "/#!")):
        raise KitaruUsageError(f"id={told(id_)} cannot name a call", hint="give a text without '/', '#' and '!'")
    return None if id_ is None else check_text("id=", id_)


def take_after(kwargs: dict[str, Any]) -> Sequence[CheckpointFuture[Any]]:
    """What is to end before this call begins."""
    after = kwargs.pop("after", None)
    several = isinstance(after, Iterable) and not isinstance(after, str | CheckpointFuture)
    futures = list(after) if several else [after]
    # A plain value has ended: `after=draft` where draft = write() is an order that holds anyway.
    return [future for future in futures if isinstance(future, CheckpointFuture)]


def binder(function: Callable[..., Any], ignored: frozenset[str]) -> Callable[..., Mapping[str, object]]:
    """Arguments by name, without the ignored ones.

    Raises:
        KitaruUsageError: the function has no parameter of an ignored name.
    """
    signature = signature_of(function, "@checkpoint")
    names = tuple(signature.parameters)
    for name in ignored.difference(names):
        raise KitaruUsageError(
            f"ignore={name!r} names no parameter of {own_name(function)}",
            hint=f"it has {', '.join(names)}" if names else "it has none: leave ignore= out",
        )
    plain = all(p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for p in signature.parameters.values())

    def bind(*args: Any, **kwargs: Any) -> Mapping[str, object]:
        if plain and not kwargs and len(args) == len(names):
            return dict(zip(names, args, strict=True))
        return signature.bind(*args, **kwargs).arguments

    def bind_some(*args: Any, **kwargs: Any) -> Mapping[str, object]:
        return {name: value for name, value in bind(*args, **kwargs).items() if name not in ignored}

    return bind_some if ignored else bind


@overload
def checkpoint(function: Callable[P, R], /) -> Checkpoint[P, R]: ...
@overload
def checkpoint(
    *, retries: int = 0, backoff: float | timedelta | Backoff = 0.0, retry_on: RetryFilter = None,
    timeout: float | timedelta | None = None, type: str | None = None, cache: bool = False,
    runtime: Literal["inline", "isolated"] = "inline", max_concurrency: int | None = None,
    replay: Literal["allowed", "never"] = "allowed", record: Literal["value", "digest"] = "value",
    ignore: str | Sequence[str] = (), passes: Passes = (),
) -> Callable[[Callable[P, R]], Checkpoint[P, R]]: ...  # fmt: skip
def checkpoint(function: Callable[P, R] | None = None, /, **options: Any) -> Any:
    """Make a function, plain or `async def`, a checkpoint of the flows that call it.

    Args:
        retries: how often it is tried again after an exception; each failed try is recorded.
        backoff: seconds, or a timedelta, before the first of these, doubled each time and a tenth longer or shorter; or
            a `Backoff`. A pause of more than 5 s holds no process.
        retry_on: exception types, or a function of the exception, that say whether to try again; by default any.
        timeout: seconds, or a timedelta, that one try may take; then it fails with KitaruTimeoutError. A plain function
            cannot be stopped: its thread is left behind. One of `runtime="isolated"` is killed.
        type: a label to show and to filter by, such as `llm_call` or `tool_call`.
        cache: whether the outcome of the same call of the same code, in any execution, is used instead.
        runtime: `isolated` executes each try in a process of its own.
        max_concurrency: at most so many calls execute at once, of those that an execution submits.
        replay: `never` guards an effect: a replay uses the recorded outcome and does not execute it.
        record: `digest` keeps the value's digest alone. The function executes again whenever its value is needed.
        ignore: names of arguments that are no part of which call it is: they are not compared with the record, not
            watched for changes, and not in the key of a cache.
        passes: exception types by which the function steers whoever calls it: outcomes, not failures. Those of agent
            frameworks are known.

    Raises:
        KitaruUsageError: an option that there is not, or a value that it cannot have.
    """
    for name in options:
        if name not in OPTIONS:
            from kitaru_registry.names import nearest

            near = nearest(name, OPTIONS)
            raise KitaruUsageError(
                f"@checkpoint has no option {name}=",
                hint=f"did you mean {near}=?" if near else f"it has {', '.join(OPTIONS)}",
            )

    def decorate(function: Callable[P, R]) -> Checkpoint[P, R]:
        require_function(function, "@checkpoint")
        return Checkpoint(function, spec_of(function, **options))

    return decorate if function is None else decorate(function)


Passes = type[BaseException] | Sequence[type[BaseException]]

RetryFilter = type[BaseException] | Sequence[type[BaseException]] | Callable[[BaseException], bool] | None

OPTIONS = (
    "retries", "backoff", "retry_on", "timeout", "type", "cache", "runtime", "max_concurrency", "replay", "record",
    "ignore", "passes",
)  # fmt: skip


def spec_of(
    function: Callable[..., Any], *, retries: int = 0, backoff: float | timedelta | Backoff = 0.0,
    retry_on: RetryFilter = None, timeout: float | timedelta | None = None, type: str | None = None,
    cache: bool | None = False, runtime: str | None = "inline", max_concurrency: int | None = None,
    replay: str = "allowed", record: str = "value", ignore: str | Sequence[str] = (),
    passes: Passes = (),
) -> CheckpointSpec:  # fmt: skip
    check_count("retries", retries, least=0)
    check_count("max_concurrency", max_concurrency)
    check_one_of("runtime", runtime or "inline", ("inline", "isolated"))
    check_one_of("replay", replay, ("allowed", "never"))
    check_one_of("record", record, ("value", "digest"))
    if type is not None and not (isinstance(type, str) and type):
        raise KitaruUsageError(f"type={told(type)} is no label", hint="give a text, such as llm_call")
    if type is not None:
        check_text("type= of a checkpoint", type)
    if cache is not None and not isinstance(cache, bool):
        raise KitaruUsageError(
            f"cache={told(cache)} is neither True nor False", hint="leave it out, or write cache=True"
        )
    limit, pause = seconds_of(timeout), seconds_of(backoff)
    if limit is not None and not (is_number(limit) and 0 < limit <= YEAR):
        raise KitaruUsageError(f"timeout={told(timeout)} is no time", hint="give seconds, more than 0, or a timedelta")
    if not isinstance(pause, Backoff) and not (is_number(pause) and 0 <= pause <= YEAR):
        raise KitaruUsageError(
            f"backoff={told(backoff)} is no pause", hint="give seconds, 0 or more, a timedelta or a kitaru.Backoff"
        )
    name = own_name(function)
    return CheckpointSpec(
        name=name,
        retries=retries,
        type=type,
        bind=binder(function, ignored_names(ignore)),
        passes=passing_types(passes),
        backoff=pause if isinstance(pause, Backoff) else Backoff(first=pause),
        retry_on=retry_filter(retry_on),
        timeout_seconds=limit,
        cache=bool(cache),
        isolated=runtime == "isolated",
        max_concurrency=max_concurrency,
        replay="never" if replay == "never" else "allowed",
        record="digest" if record == "digest" else "value",
        identity=f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', name)}",
        function=function,
    )


def passing_types(given: Any) -> tuple[type[BaseException], ...]:
    kinds = tuple(given) if isinstance(given, list | tuple | set | frozenset) else (given,)
    if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        raise KitaruUsageError(
            f"passes={told(given)} names no exceptions", hint="give exception types: passes=(Postponed,)"
        )
    return kinds


def ignored_names(given: Any) -> frozenset[str]:
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, list | tuple | set | frozenset) or not all(isinstance(name, str) for name in names):
        raise KitaruUsageError(f"ignore={told(given)} names no arguments", hint='give their names: ignore=("ctx",)')
    return frozenset(names)


def retry_filter(given: Any) -> RetryOn:
    if given is None:
        return None
    kinds = tuple(given) if isinstance(given, list | tuple | set | frozenset) else (given,)
    if all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        return kinds
    if callable(given) and not isinstance(given, type):
        return cast(RetryOn, given)
    raise KitaruUsageError(
        f"retry_on={told(given)} says not what to retry on", hint="give exception types, or a function of the exception"
    )


def check_count(name: str, value: object, *, least: int = 1) -> None:
    if value is None and least == 1:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise KitaruUsageError(f"{name}={told(value)} is not a number of them", hint=f"give {least} or more")


def check_one_of(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise KitaruUsageError(f"{name}={told(value)} does not exist", hint=f"one of {', '.join(choices)}")


def seconds_of(duration: Any) -> Any:
    """A timedelta as its seconds; anything else as it is."""
    return duration.total_seconds() if isinstance(duration, timedelta) else duration


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
