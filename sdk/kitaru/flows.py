"""`@flow`: a function whose executions survive crashes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, TypeVar, cast, overload

from kitaru.definition import FlowDefinition
from kitaru.door import checked
from kitaru.flow_options import FlowOptions, flow_options, one_tag, take_options
from kitaru_registry.errors import KitaruContextError, KitaruUsageError
from kitaru_runner.child.loader import InertHandle, is_loading
from kitaru_runner.engine.core.calls import this_branch

if TYPE_CHECKING:
    from datetime import timedelta

    from kitaru.handle import FlowHandle
    from kitaru_registry.models import Deployed, VersionDetail

P = ParamSpec("P")
R = TypeVar("R")


class Flow(FlowDefinition, Generic[P, R]):
    """A decorated function.

    `.run(...)` executes it in this process; `.deploy()` and `.invoke(...)` make and use versions.
    """

    decorator = "@flow"

    def __init__(self, function: Callable[P, R], options: FlowOptions = FlowOptions()) -> None:  # noqa: B008  # frozen
        super().__init__(function, options)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> NoReturn:
        raise KitaruUsageError(
            f"flow {self.name} was called directly",
            hint=f"write {self.name}.run(...), or .run(...).wait() for its result",
        )

    @overload
    def run(self, *args: P.args, **kwargs: P.kwargs) -> FlowHandle: ...
    @overload
    def run(
        self, *args: Any, retries: int | None, cache: bool | None = ..., stack: str | None = ..., **kwargs: Any
    ) -> FlowHandle: ...
    @overload
    def run(self, *args: Any, cache: bool | None, stack: str | None = ..., **kwargs: Any) -> FlowHandle: ...
    @overload
    def run(self, *args: Any, stack: str | None, **kwargs: Any) -> FlowHandle: ...
    def run(self, *args: Any, **kwargs: Any) -> FlowHandle:
        """Start an execution in this process, and return at once.

        In the body of a flow it starts a child execution, which is journalled: a replay finds it again. There the
        handle's `wait()` lets the parent stand still as at a `wait(...)`.

        Keywords `retries`, `cache`, `stack` and `image` are those of `@flow`, for this execution; a parameter of the
        flow that has such a name is given by position.

        Raises:
            KitaruUsageError: arguments that do not fit the signature; nothing was started.
            KitaruContextError: inside a checkpoint.
        """
        if is_loading():
            return cast("FlowHandle", InertHandle())
        options = take_options(self.options, kwargs)
        inputs = self.bind(*args, **kwargs)
        branch = this_branch()
        if branch is not None:
            from kitaru.children import run_child

            return run_child(branch, self, inputs, options)
        from kitaru.running import run_here

        return run_here(self, inputs, options=options)

    @checked
    def deploy(
        self, *, tag: str | None = None, adopt: bool = False, stack: str | None = None, image: None = None,
        cache: bool | None = None, retries: int | None = None, tags: Mapping[str, bool] | None = None,
        publish_default_on_first_deploy: bool = True,
    ) -> Deployed:  # fmt: skip
        """Deploy this flow's file, as `kitaru deploy` does.

        Args:
            tag: move it to the version too.
            adopt: take over a flow name that another origin holds.
            cache, retries: instead of what `@flow` says; part of the version's identity.
            stack: None or `local`.
            tags: another way to write `tag`: `{"stable": True}`.

        Raises:
            KitaruUsageError: an option that means nothing here; nothing was deployed.
        """
        if is_loading():
            return cast("Deployed", InertHandle())
        options = take_options(self.options, {"stack": stack, "image": image, "cache": cache, "retries": retries})
        named = one_tag(tag, tags, publish_default=publish_default_on_first_deploy)
        from kitaru.client import KitaruClient

        file = self.file
        if file is None:
            raise KitaruUsageError(f"flow {self.name} has no file to deploy", hint="write it in a file of its own")
        client = KitaruClient(cwd=file.parent)
        changed = None if options == self.options else options
        return client.deployments.create(f"{file}:{self.name}", tag=named, adopt=adopt, options=changed)

    @checked
    def invoke(self, *, version: int | str | None = None, tag: str | None = None, **inputs: Any) -> FlowHandle:
        """Start a deployed version, by default what the tag `default` points at.

        In the body of a flow it starts a child execution, as `run` does.
        """
        if is_loading():
            return cast("FlowHandle", InertHandle())
        branch = this_branch()
        if branch is not None:
            from kitaru.children import invoke_child

            return invoke_child(branch, self.name, inputs, version=version, tag=tag)
        from kitaru.client import KitaruClient

        client = KitaruClient(cwd=self.file.parent if self.file else None)
        return client.deployments.invoke(flow=self.name, inputs=inputs, version=version, tag=tag)

    @checked
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
        from kitaru.replaying import Request
        from kitaru.running import replay_here

        client = KitaruClient(cwd=self.file.parent if self.file else None)
        return replay_here(client, self, exec_id, Request(from_, overrides or {}, inputs, only_recorded=only_recorded))

    @checked
    def deployment(self, *, version: int | str | None = None, tag: str | None = None) -> VersionDetail:
        from kitaru.client import KitaruClient

        return KitaruClient().deployments.get(flow=self.name, version=version, tag=tag)

    def deployments(self) -> list[VersionDetail]:
        from kitaru.client import KitaruClient

        return KitaruClient().deployments.list(flow=self.name)


def require_no_flow(name: str) -> None:
    if this_branch() is not None:
        raise KitaruContextError(
            f"a replay of {name} was started inside a flow",
            hint=f"start it from outside; a child execution is {name}.run(...)",
        )


@overload
def flow(function: Callable[P, R], /) -> Flow[P, R]: ...
@overload
def flow(
    *, stack: str | None = None, image: None = None, cache: bool | None = None, retries: int | None = None,
    finish_timeout: float | timedelta | None = None,
) -> Callable[[Callable[P, R]], Flow[P, R]]: ...  # fmt: skip
def flow(
    function: Callable[P, R] | None = None, /, **options: Any
) -> Flow[P, R] | Callable[[Callable[P, R]], Flow[P, R]]:
    """Make a function, plain or `async def`, a flow. Its name is the function's.

    Args:
        retries: how often an execution begins anew after its own code has failed. What is recorded is kept, but for
            the failures that reached the top. A cancellation, a divergence and crashes use up none.
        cache: for all checkpoints, instead of what each says.
        finish_timeout: seconds, or a timedelta, from an execution's first start to its end, waits and retries
            included; then it fails with KitaruTimeoutError.
        stack: where it executes: None or `local`, which are the same.
        image: has no meaning, and is refused.

    Raises:
        KitaruUsageError: an option that there is not, or a value that it cannot have.
    """
    said = flow_options(options)
    if function is not None:
        return Flow(function, said)

    def decorate(function: Callable[P, R]) -> Flow[P, R]:
        return Flow(function, said)

    return decorate
