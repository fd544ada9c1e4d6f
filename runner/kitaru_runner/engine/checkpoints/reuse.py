"""What may be used in a call's place, or must be: what a cache, a replay and a guard say where nothing is recorded."""

from __future__ import annotations

from typing import NoReturn

from kitaru_registry.clock import now_us
from kitaru_registry.errors import KitaruStateError
from kitaru_registry.journal.entries import Entry, Kind
from kitaru_registry.journal.keys import Call
from kitaru_runner.engine.checkpoints.tries import Executed, cached_entry
from kitaru_runner.engine.core.attempt import Attempt
from kitaru_runner.engine.core.specs import Work
from kitaru_runner.values.failures import ExecutionCancelled


def reusable(attempt: Attempt, call: Call, work: Work, inputs: bytes, key: bytes | None) -> Executed | None:
    """The outcome of another execution's same call, under that cache key; None: execute it.

    Raises:
        ExecutionCancelled: only what is recorded may be used; the execution has ended here.
        KitaruStateError: `replay="never"`, in a replay that has no outcome of it.
    """
    if attempt.opening.replay is not None:
        permit(attempt, call)
        if work.spec.replay == "never":
            refuse_guarded(attempt, call)
        if attempt.opening.replay.get("from") == call.key:
            return None  # Asked for by name; the cache has what the original recorded.
    if key is None:
        return None
    found = attempt.guard(lambda: attempt.journal.cached(key))
    if found is None:
        return None
    return cached_entry(call, work.spec, inputs, *found)


def permit(attempt: Attempt, call: Call) -> None:
    """Let a call be made that is not recorded.

    Raises:
        ExecutionCancelled: only what is recorded may be used; the execution has ended here.
    """
    if attempt.opening.replay is not None and attempt.opening.replay.get("only_recorded"):
        attempt.guard(lambda: attempt.journal.stop(call.key))
        attempt.halt(ExecutionCancelled())
        attempt.check_halted()


def refuse_guarded(attempt: Attempt, call: Call) -> NoReturn:
    # Recorded, so that an outcome can be given for this call in a replay of this replay.
    if not attempt.recorded.has(f"{call.key}!guarded"):
        said = Entry(Kind.REMARK, f"{call.key}!guarded", now_us(), metadata={
            "warning": f'{call.key} is guarded by replay="never", and was not executed', "place": call.place,
        })  # fmt: skip
        attempt.recorded.add(said)
        attempt.commit([said])
    of = (attempt.opening.replay or {}).get("of")
    raise KitaruStateError(
        f'checkpoint {call.key} is guarded by replay="never", and execution {of} has no outcome of it',
        hint=f"give one: kitaru executions replay {attempt.exec_id} --overrides '{{\"checkpoint.{call.key}\": ...}}'",
    )
