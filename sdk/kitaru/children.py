"""Flows that a flow starts: child executions, and the handle that their parent gets.

What a parent learns of a child is in the parent's journal, so a replay of the parent goes the same way.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from kitaru.definition import FlowDefinition, called
from kitaru.execution import loop_is_running
from kitaru.flow_options import FlowOptions
from kitaru.handle import FlowHandle
from kitaru.inputs import encode_inputs
from kitaru.invoking import as_json
from kitaru.waiting import deadline_of
from kitaru_registry.errors import KitaruContextError, KitaruUsageError
from kitaru_registry.journal.entries import ChildRequest
from kitaru_registry.journal.keys import Call
from kitaru_runner.engine.aio.standing import wait_on_loop
from kitaru_runner.engine.checkpoints.child_flows import peek, start, wait_for
from kitaru_runner.engine.checkpoints.notes import note
from kitaru_runner.engine.checkpoints.stands import Stand
from kitaru_runner.engine.core.calls import Branch, this_branch
from kitaru_runner.values import codec

if TYPE_CHECKING:
    from kitaru_registry.models import ExecutionId

HERE = ""
"""The entrypoint of a flow that is executed in its parent's process."""


def run_child(branch: Branch, flow: FlowDefinition, inputs: Mapping[str, Any], options: FlowOptions) -> FlowHandle:
    """`.run(...)` in a flow's body: an execution on the same code as its parent."""
    entrypoint = HERE if branch.attempt.root is None else entrypoint_of(flow, Path(branch.attempt.root))

    def request(call: Call, digest: bytes) -> ChildRequest:
        encoded = encode_inputs(flow.name, inputs)
        return ChildRequest(call.key, call.place, flow.name, encoded, entrypoint=entrypoint, options=options.said,
                            digest=digest)  # fmt: skip

    token = called.set(flow)
    try:
        return ChildHandle(start(branch, request, flow=flow.name, inputs=inputs), flow.name)
    finally:
        called.reset(token)


def invoke_child(
    branch: Branch, flow: str, inputs: Mapping[str, Any], *, version: int | str | None, tag: str | None
) -> FlowHandle:
    """`.invoke(...)` in a flow's body: an execution of a deployed version."""
    plain = as_json(inputs)

    def request(call: Call, digest: bytes) -> ChildRequest:
        return ChildRequest(call.key, call.place, flow, codec.encode(plain), tag=tag, digest=digest,
                            version=None if version is None else str(version))  # fmt: skip

    return ChildHandle(start(branch, request, flow=flow, inputs=plain), flow)


def entrypoint_of(flow: FlowDefinition, root: Path) -> str:
    """Where a flow is in the deployed code.

    Raises:
        KitaruUsageError: it is not there, or no module has it by a name.
    """
    file = flow.file
    if file is None or not file.is_relative_to(root.resolve()):
        raise KitaruUsageError(
            f"flow {flow.name} is not in the code that was deployed, so it cannot be started by .run() there",
            hint=f"deploy it too, and start it by {flow.name}.invoke(...)",
        )
    names = vars(sys.modules[flow.function.__module__])
    for name in (flow.name, *names):
        if names.get(name) is flow:
            return f"{file.relative_to(root.resolve()).as_posix()}:{name}"
    raise KitaruUsageError(
        f"flow {flow.name} is defined inside a function, and a process of its own cannot find it there",
        hint="define it at the top of its module",
    )


class ChildHandle(FlowHandle):
    """A child execution, as its parent's body has it. Everything that it tells is journalled with the parent."""

    def __init__(self, exec_id: str, flow: str) -> None:
        self.exec_id: ExecutionId = exec_id  # type: ignore[assignment]  # from a journal, which holds text
        self.flow = flow
        self.created = True

    @property
    def status(self) -> str:
        branch = self._branch("status")
        if branch.call is not None:
            return str(branch.attempt.journal.outcome(self.exec_id).status)
        return str(note(branch, f"status:{self.flow}", lambda: branch.attempt.journal.outcome(self.exec_id).status))

    def wait(self, timeout: float | None = None) -> Any:
        """The child's result, once it has ended. The parent stands still as at a `wait(...)`, and holds no process
        while it has nothing else to do. In `async def`: `await handle.wait()`, or `await handle`.

        Args:
            timeout: seconds.

        Raises:
            KitaruUserCodeError: the child raised; its exception is the cause.
            KitaruExecutionError: it was cancelled, or ended otherwise without a result.
            KitaruNotFinishedError: the time-out was over first; the child goes on.
        """
        branch = self._branch("wait()")
        stand = Stand(f"wait:{self.flow}", kind="child", child=self.exec_id, deadline_us=deadline_of(timeout))
        if loop_is_running():
            return wait_on_loop(stand, flow=self.flow)
        return wait_for(branch, stand, flow=self.flow)

    def get(self) -> Any:
        """The result of a child that has ended; else as `wait`, without waiting.

        Raises:
            KitaruNotFinishedError: it has not ended.
        """
        return peek(self._branch("get()"), f"get:{self.flow}", self.exec_id, flow=self.flow)

    def __await__(self) -> Generator[Any, None, Any]:
        awaited: Generator[Any, None, Any] = self.wait().__await__()
        return awaited

    def until_settled(self, timeout: float | None = None) -> NoReturn:
        self._only_outside("until_settled()")

    def cancel(self) -> NoReturn:
        self._only_outside("cancel()")

    def logs(self, *, checkpoint: str | None = None) -> NoReturn:
        self._only_outside("logs()")

    def stream(self, offset: int = 0) -> NoReturn:
        self._only_outside("stream()")

    def _only_outside(self, what: str) -> NoReturn:
        raise KitaruContextError(
            f"{what} of a child execution cannot be asked for by its parent's flow",
            hint=f"from outside: KitaruClient().executions.handle({self.exec_id!r}).{what}",
        )

    def _branch(self, what: str) -> Branch:
        branch = this_branch()
        if branch is None:
            raise KitaruContextError(
                f"{what} of the child execution {self.exec_id} was called outside of its parent's flow",
                hint=f"from outside: KitaruClient().executions.handle({self.exec_id!r})",
            )
        return branch
