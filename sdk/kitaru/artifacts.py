"""`save`, `load`, `log`: what an execution leaves behind beside its outcomes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from kitaru.execution import require_branch
from kitaru_registry.errors import KitaruUsageError
from kitaru_registry.journal.entries import Saved
from kitaru_registry.journal.json_text import compact
from kitaru_registry.names import LONGEST_TEXT, check_text, told
from kitaru_runner.engine.checkpoints import notes
from kitaru_runner.engine.core.calls import this_branch
from kitaru_runner.values import codec
from kitaru_runner.values.named_types import type_name

ARTIFACT_TYPES = ("prompt", "response", "context", "input", "output", "blob")


def save(name: str, value: object, *, type: str = "output", tags: Sequence[str] = ()) -> None:
    """Keep a value as an artifact of this execution.

    Inside a checkpoint it becomes durable with the checkpoint's outcome; in the flow's body at once, and once.

    Raises:
        KitaruUsageError: an unknown type, no name, tags that are none, or a value that no codec carries.
        KitaruContextError: outside of a flow.
    """
    if type not in ARTIFACT_TYPES:
        raise KitaruUsageError(f"there is no artifact type {told(type)}", hint=f"one of {', '.join(ARTIFACT_TYPES)}")
    if not isinstance(name, str) or not name:
        raise KitaruUsageError(f"save({told(name)}) has no name", hint="give a text")
    check_text("save(name)", name)
    is_several = isinstance(tags, Collection) and not isinstance(tags, str)
    if not is_several or not all(isinstance(tag, str) and tag for tag in tags):
        raise KitaruUsageError(f"save(tags={told(tags)}) are no tags", hint='give a list of texts: tags=["draft"]')
    for tag in tags:
        check_text("save(tags)", tag)
    branch = require_branch("save")
    saved = Saved(name, type, tuple(dict.fromkeys(tags)), codec.encode(value))
    notes.save(branch, saved, parents=branch.attempt.lineage.parents((value,), {}))


def load(exec_id: str, name: str, *, index: int | None = None, trust_pickle: bool = False) -> Any:
    """The artifact of that name, or the output of the checkpoint of that name or key, of an execution.

    In a flow's body the value is recorded: every attempt sees the same, whatever becomes of the other execution.
    Inside a checkpoint, and outside of any flow, it is read as it is now.

    Args:
        index: which of several that fit, in recorded order; negative ones count from the last.
        trust_pickle: whether to read what another user's home holds pickled, which runs that user's code.

    Raises:
        KitaruNotFoundError: there is no such execution, or no such artifact in it; or its values were deleted.
        KitaruConflictError: several fit, and there is no `index`.
        KitaruStateError: only its digest was kept.
        KitaruUsageError: it is pickled, and not to be trusted; or its codec is not known here.
    """
    check_text("load(exec_id)", exec_id)
    check_text("load(name)", name)
    branch = this_branch()
    if branch is not None:
        from kitaru_runner.engine.checkpoints.loads import load as load_in_flow

        return load_in_flow(branch, exec_id, name, index=index, trust_pickle=trust_pickle)
    from kitaru.client import KitaruClient

    return KitaruClient().load(exec_id, name, index=index, trust_pickle=trust_pickle)


def log(**metadata: object) -> None:
    """Attach metadata to the checkpoint that calls, or to the execution. Mappings merge, other values replace.

    Raises:
        KitaruUsageError: a value that is not JSON.
    """
    branch = require_branch("log")
    for key, value in metadata.items():
        check_metadata(f"log({key}=...)", value)
    notes.log(branch, metadata)


def check_metadata(what: str, value: object) -> None:
    """
    Raises:
        KitaruUsageError: it is not JSON, or too large or too deep to be kept beside a value.
    """
    try:
        if not codec.is_json(value):
            raise KitaruUsageError(
                f"{what} got a {type_name(value.__class__)}", hint="log numbers, text, lists and dicts"
            )
        size = len(compact(value))
    except (RecursionError, ValueError) as error:
        if isinstance(error, KitaruUsageError):
            raise
        raise KitaruUsageError(
            f"{what} cannot be kept: {error}", hint="return it, or kitaru.save(name, value)"
        ) from error
    if size > LONGEST_TEXT:
        raise KitaruUsageError(
            f"{what} has {size:,} bytes; {LONGEST_TEXT:,} is the most",
            hint="keep what is large as a value: return it, or kitaru.save(name, value)",
        )
