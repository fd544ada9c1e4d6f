"""Which execution this code belongs to."""

from __future__ import annotations

from kitaru_registry.errors import KitaruContextError
from kitaru_runner.engine.core.calls import Branch, active, this_branch


def current_execution_id() -> str | None:
    """The id of the execution that calls; None outside of any flow."""
    branch = this_branch()
    return branch.attempt.exec_id if branch is not None else None


def require_branch(name: str) -> Branch:
    """The branch that calls.

    Raises:
        KitaruContextError: called outside of any flow, or in a thread that the flow's context did not come to.
    """
    branch = this_branch()
    if branch is None and active.lost_context():
        raise KitaruContextError(
            f"{name}() was called in a thread without the flow's context",
            hint="call it in the flow's body, or start the thread with the context: contextvars.copy_context().run",
        )
    if branch is None:
        raise KitaruContextError(
            f"{name}() was called outside of a flow", hint="call it in a function under @flow, started with .run()"
        )
    return branch


def loop_is_running() -> bool:
    """Whether the caller runs on an event loop; loads no asyncio to find out."""
    import sys

    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None
