"""`save`, `load`, `log`: what an execution leaves behind beside its outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kitaru.execution import require_branch
from kitaru_registry.errors import KitaruUsageError
from kitaru_runner import codec
from kitaru_runner.context import current
from kitaru_runner.protocol import Saved

ARTIFACT_TYPES = ("prompt", "response", "context", "input", "output", "blob")


def save(name: str, value: object, *, type: str = "output", tags: Sequence[str] = ()) -> None:
    """Keep a value as an artifact of this execution.

    Inside a checkpoint it becomes durable with the checkpoint's outcome; in the flow's body at once, and once.

    Raises:
        KitaruUsageError: an unknown type, or a value that no codec carries.
        KitaruContextError: outside of a flow.
    """
    if type not in ARTIFACT_TYPES:
        raise KitaruUsageError(f"there is no artifact type {type!r}", hint=f"one of {', '.join(ARTIFACT_TYPES)}")
    branch = require_branch("save")
    branch.engine.save(branch, Saved(name, type, tuple(tags), codec.encode(value)))


def load(exec_id: str, name: str) -> Any:
    """The artifact of that name, or the output of the checkpoint of that name or key, of an execution.

    Raises:
        KitaruNotFoundError: there is no such execution, or no such artifact in it.
        KitaruConflictError: several fit.
    """
    branch = current.get()
    if branch is not None:
        return branch.engine.load(exec_id, name)
    from kitaru.client import KitaruClient

    return KitaruClient().load(exec_id, name)


def log(**metadata: object) -> None:
    """Attach metadata to the checkpoint that calls, or to the execution. Mappings merge, other values replace.

    Raises:
        KitaruUsageError: a value that is not JSON.
    """
    branch = require_branch("log")
    for key, value in metadata.items():
        if not codec.is_json(value):
            raise KitaruUsageError(
                f"log({key}=...) got a {codec.type_name(value.__class__)}", hint="log numbers, text, lists and dicts"
            )
    branch.engine.log(branch, metadata)
