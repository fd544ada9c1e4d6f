"""Checkpoints: a call whose key is in the journal gives its recorded outcome, value or failure.

The first that is not there executes, and its outcome is durable before the flow sees it. These calls are synchronous;
calling.py has those that are awaited, submit.py those that go on beside the flow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kitaru_registry.errors import KitaruUsageError
from kitaru_registry.journal.entries import ARGUMENT_CHANGED, Encoded, Entry, Kind
from kitaru_registry.journal.keys import Call
from kitaru_runner.engine.checkpoints.cache_keys import cache_key
from kitaru_runner.engine.checkpoints.digest_only import Remaking
from kitaru_runner.engine.checkpoints.other_arguments import check_arguments
from kitaru_runner.engine.checkpoints.pauses import pause
from kitaru_runner.engine.checkpoints.reuse import reusable
from kitaru_runner.engine.checkpoints.tries import Executed, begin_try, perform, unrecordable
from kitaru_runner.engine.core.attempt import Attempt
from kitaru_runner.engine.core.calls import Branch
from kitaru_runner.engine.core.lanes import Slot
from kitaru_runner.engine.core.recorded import is_unkept
from kitaru_runner.engine.core.specs import Work
from kitaru_runner.values import codec
from kitaru_runner.values.arguments import digest_inputs

Commit = Callable[[Attempt, Executed], Executed]
"""Makes an outcome durable, and gives it to whom it is for."""


def checkpoint(branch: Branch, work: Work, *, id_: str | None = None) -> Any:
    """The outcome of a synchronous call: recorded, or executed and recorded."""
    call = branch.place(work.spec.name, id_, "checkpoint")
    attempt = branch.attempt
    inputs = digest_inputs(work.arguments())
    if branch.family is not None and id_ is None:
        call = branch.family.find(branch, call, inputs)
    entry = attempt.recorded.find(call, inputs)
    try:
        if entry is None:
            return executed(attempt, execute(branch, call, work, inputs, commit))
        check_arguments(attempt, call, entry, inputs, work.arguments)
        return replayed(attempt, entry, lambda: attempt.its(Remaking).again(entry, call, work, branch))
    except Exception as error:
        attempt.unconsumed.given(call.key, branch.task, error)
        raise


def execute(
    branch: Branch, call: Call, work: Work, inputs: bytes, commit: Commit, slot: Slot | None = None
) -> Executed:  # fmt: skip
    """Run the tries that are left, and record the outcome."""
    attempt = branch.attempt
    key = cache_key(attempt, work, inputs) if work.spec.cache or attempt.opening.cache else None
    if key is not None or attempt.opening.replay is not None:
        known = reusable(attempt, call, work, inputs, key)
        if known is not None:
            return record(attempt, known, commit)
    while True:
        failed, _ = attempt.recorded.failed_tries(call.key)
        if failed:
            pause(attempt, call, work.spec, slot)
        this_try = begin_try(call, work, branch, inputs, number=failed + 1, cache_key=key)
        try:
            ended = perform(this_try, work)
        finally:
            attempt.parking.end()
        if branch.span is not None:
            branch.check_time()
        if ended.entry.kind == Kind.CALL:
            return record(attempt, ended, commit)
        attempt.commit([ended.entry])
        attempt.recorded.try_failed(call.key, this_try.number, ended.entry.ended_us)


def record(attempt: Attempt, ended: Executed, commit: Commit) -> Executed:
    """Record an outcome, or why that cannot be."""
    try:
        return commit(attempt, ended)
    except KitaruUsageError as error:
        return commit(attempt, unrecordable(ended, error))


def commit(attempt: Attempt, ended: Executed) -> Executed:
    seq = attempt.commit([ended.entry])
    if attempt.loops.sides:
        attempt.loops.delivered(seq)
    return ended


def executed(attempt: Attempt, ended: Executed) -> Any:
    """The outcome of a call that this attempt has recorded."""
    encoded = ended.encoded
    if encoded is None or ended.entry.flags & ARGUMENT_CHANGED:
        return attempt.outcome(ended.entry)
    value = codec.decode(encoded)
    attempt.lineage.note(value, ended.entry.key, len(encoded.data))
    return value


def replayed(attempt: Attempt, entry: Entry, again: Callable[[], Encoded]) -> Any:
    """The outcome of an earlier attempt, given to synchronous code.

    Args:
        again: executes the call, whose value was not kept.
    """
    attempt.loops.delivered(entry.seq)
    if is_unkept(entry):
        return attempt.its(Remaking).checked(entry, again())
    return attempt.outcome(entry)
