"""`@flow`: a function whose executions survive crashes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, TypeVar, cast, overload

from kitaru_registry.errors import KitaruContextError, KitaruUsageError
from kitaru_runner.context import current
from kitaru_runner.loader import InertHandle, is_loading

if TYPE_CHECKING:
    from kitaru.handle import FlowHandle
    from kitaru_registry.models import Deployed, VersionDetail

P = ParamSpec("P")
R = TypeVar("R")


class Flow(Generic[P, R]):
    """A decorated function.

    `.run(...)` executes it in this process; `.deploy()` and `.invoke(...)` make and use versions.
    """

    def __init__(self, function: Callable[P, R]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name: str = getattr(function, "__name__", "flow")
        self.signature = inspect.signature(function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> NoReturn:
        raise KitaruUsageError(
            f"flow {self.name} was called directly",
            hint=f"write {self.name}.run(...), or .run(...).wait() for its result",
        )

    def run(self, *args: P.args, **kwargs: P.kwargs) -> FlowHandle:
        """Start an execution in this process, and return at once.

        Raises:
            KitaruUsageError: arguments that do not fit the signature; nothing was started.
            KitaruContextError: inside a flow; child flows are not in this release.
        """
        if is_loading():
            return cast("FlowHandle", InertHandle())
        require_no_flow(self.name)
        from kitaru.running import run_here

        return run_here(self, self.bind(*args, **kwargs))

    def deploy(self, *, tag: str | None = None, adopt: bool = False) -> Deployed:
        """Deploy this flow's file, as `kitaru deploy` does."""
        if is_loading():
            return cast("Deployed", InertHandle())
        from kitaru.client import KitaruClient

        file = self.file
        if file is None:
            raise KitaruUsageError(f"flow {self.name} has no file to deploy", hint="write it in a file of its own")
        return KitaruClient(cwd=file.parent).deployments.create(f"{file}:{self.name}", tag=tag, adopt=adopt)

    def invoke(self, *, version: int | str | None = None, tag: str | None = None, **inputs: Any) -> FlowHandle:
        """Start a deployed version, by default what the tag `default` points at."""
        if is_loading():
            return cast("FlowHandle", InertHandle())
        from kitaru.client import KitaruClient

        client = KitaruClient(cwd=self.file.parent if self.file else None)
        return client.deployments.invoke(flow=self.name, inputs=inputs, version=version, tag=tag)

    def replay(
        self, exec_id: str, *, from_: str | None = None, overrides: Mapping[str, Any] | None = None,
        only_recorded: bool = False, **inputs: Any,
    ) -> FlowHandle:  # fmt: skip
        """Run this code, in this process, against what another execution of the flow recorded, deployed or not.

        A new source execution; as `KitaruClient().executions.replay`, which executes the code that recorded.
        """
        if is_loading():
            return cast("FlowHandle", InertHandle())
        require_no_flow(self.name)
        from kitaru.client import KitaruClient
        from kitaru.replaying import Request, replay_here

        client = KitaruClient(cwd=self.file.parent if self.file else None)
        return replay_here(client, self, exec_id, Request(from_, overrides or {}, inputs, only_recorded=only_recorded))

    def deployment(self, *, version: int | str | None = None, tag: str | None = None) -> VersionDetail:
        from kitaru.client import KitaruClient

        return KitaruClient().deployments.get(flow=self.name, version=version, tag=tag)

    def deployments(self) -> list[VersionDetail]:
        from kitaru.client import KitaruClient

        return KitaruClient().deployments.list(flow=self.name)

    @property
    def file(self) -> Path | None:
        code = getattr(self.function, "__code__", None)
        path = Path(code.co_filename) if code is not None else None
        return path.resolve() if path is not None and path.is_file() else None

    def bind(self, *args: Any, **kwargs: Any) -> Mapping[str, Any]:
        """Arguments by name, without defaults; those of `*args` under that name."""
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise KitaruUsageError(f"{self.name}: {error}", hint=f"it takes {self.name}{self.signature}") from error
        inputs: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            kind = self.signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_KEYWORD:
                inputs.update(value)
            elif kind is inspect.Parameter.VAR_POSITIONAL or kind is inspect.Parameter.POSITIONAL_ONLY:
                given = list(value) if kind is inspect.Parameter.VAR_POSITIONAL else [value]
                inputs["*args"] = [*inputs.get("*args", []), *given]
            else:
                inputs[name] = value
        return spread_before_varargs(self.signature, inputs)


def require_no_flow(name: str) -> None:
    if current.get() is not None:
        raise KitaruContextError(
            f"flow {name} was started inside a flow, and a replay would start it again",
            hint="call the functions that it is made of; child flows are not in this release",
        )


def spread_before_varargs(signature: inspect.Signature, inputs: dict[str, Any]) -> dict[str, Any]:
    """Parameters before `*args` must be passed by position, or the first of `*args` would take their place."""
    has_varargs = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in signature.parameters.values())
    if not has_varargs or "*args" not in inputs:
        return inputs
    leading = [n for n, p in signature.parameters.items() if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    named = [inputs.pop(name) for name in leading if name in inputs]
    inputs["*args"] = [*named, *inputs["*args"]]
    return inputs


@overload
def flow(function: Callable[P, R], /) -> Flow[P, R]: ...
@overload
def flow(**options: object) -> Callable[[Callable[P, R]], Flow[P, R]]: ...
def flow(
    function: Callable[P, R] | None = None, /, **options: object
) -> Flow[P, R] | Callable[[Callable[P, R]], Flow[P, R]]:
    """Make a function, plain or `async def`, a flow. Its name is the function's.

    Raises:
        KitaruUsageError: an option that this release does not have.
    """
    if options:
        raise KitaruUsageError(
            f"@flow({', '.join(f'{name}=' for name in sorted(options))}) has no meaning in this release",
            hint="write @flow alone; docs/concepts.md lists what there is",
        )
    return Flow(function) if function is not None else Flow
