"""What a flow records beside its calls: noted values, artifacts that it saves, what it logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kitaru_registry.clock import now_us
from kitaru_registry.journal.entries import Entry, Kind, Saved
from kitaru_runner.engine.core.calls import Branch, without_order
from kitaru_runner.engine.core.forking import check_not_forked
from kitaru_runner.values import codec


def note(branch: Branch, name: str, make: Callable[[], Any]) -> Any:
    """A plain value that is the same in every attempt."""
    check_not_forked(branch.attempt, f"{name}()")
    if not branch.has_order:
        raise without_order(f"{name}() cannot be noted")
    call = branch.place(name)
    attempt = branch.attempt
    entry = attempt.recorded.find(call)
    if entry is not None:
        return attempt.outcome(entry)
    encoded = codec.encode(attempt.pace.noted(name, make))
    attempt.commit([Entry(Kind.NOTE, call.key, now_us(), place=call.place, value=encoded)])
    return codec.decode(encoded)


def save(branch: Branch, saved: Saved, *, parents: Sequence[str] = ()) -> None:
    """With the checkpoint's outcome; in the flow's body at once, and once."""
    check_not_forked(branch.attempt, f"save({saved.name!r})")
    if branch.call is not None:
        branch.left.saved.append(saved)
        branch.left.loaded.extend(parents)
        return
    call = branch.place(f"save:{saved.name}")
    attempt = branch.attempt
    if attempt.recorded.find(call) is None:
        entry = Entry(Kind.SAVE, call.key, now_us(), place=call.place, saved=(saved,), parents=tuple(parents))
        attempt.commit([entry])


def log(branch: Branch, metadata: Mapping[str, Any]) -> None:
    """With the checkpoint's outcome; in the flow's body at once, and once."""
    check_not_forked(branch.attempt, "log()")
    if branch.call is not None:
        branch.left.log(metadata)
        return
    call = branch.place("log")
    attempt = branch.attempt
    if attempt.recorded.find(call) is None:
        attempt.commit([Entry(Kind.LOG, call.key, now_us(), place=call.place, metadata=dict(metadata))])
