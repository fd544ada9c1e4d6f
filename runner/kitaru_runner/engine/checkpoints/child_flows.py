"""Child executions in their parent's journal: that they were started, and how they ended.

A parent goes the same way in every replay, whatever became of its children since.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from kitaru_registry.clock import now_us
from kitaru_registry.errors import (
    KitaruContextError,
    KitaruExecutionError,
    KitaruNotFinishedError,
    KitaruNotFoundError,
    KitaruUsageError,
    KitaruUserCodeError,
)
from kitaru_registry.journal.entries import Answer, ChildRequest, Entry, Kind, Outcome
from kitaru_registry.journal.keys import Call
from kitaru_runner.engine.checkpoints.other_arguments import check_arguments
from kitaru_runner.engine.checkpoints.stands import Stand, open_stand
from kitaru_runner.engine.core.calls import Branch, task_of, this_branch
from kitaru_runner.values.arguments import digest_inputs
from kitaru_runner.values.failures import describe_failure

if TYPE_CHECKING:
    from kitaru_runner.engine.core.attempt import Attempt

ENDED = ("completed", "failed", "cancelled")


def start(
    branch: Branch, request: Callable[[Call, bytes], ChildRequest], *, flow: str, inputs: Mapping[str, Any]
) -> str:
    """The id of a child execution: the one that is recorded, or a new one.

    Args:
        request: makes it of its call and the digest of its inputs.

    Raises:
        KitaruContextError: inside a checkpoint.
        KitaruError: there is no such flow, or the inputs do not fit; that is recorded too.
    """
    attempt = branch.attempt
    if branch.call is not None:
        raise KitaruContextError(
            f"flow {flow} was started inside checkpoint {branch.call.key}",
            hint="start it in the flow's body: a checkpoint executes again when it is cut short",
        )
    call = branch.place(flow)
    digest = digest_inputs(inputs)
    if branch.family is not None:
        call = branch.family.find(branch, call, digest)
    entry = attempt.recorded.find(call, digest)
    if entry is not None:
        check_arguments(attempt, call, entry, digest, lambda: inputs)
        exec_id = str(attempt.outcome(entry))
        attempt.guard(lambda: attempt.journal.attend(exec_id))
        return exec_id
    try:
        made: tuple[str, int] = attempt.write(lambda: attempt.journal.child(request(call, digest)))
    except (KitaruUsageError, KitaruNotFoundError) as error:
        described = describe_failure(error, checkpoint=call.key)
        refused = Entry(Kind.CHILD, call.key, now_us(), place=call.place, inputs=digest, error=described)
        attempt.commit([refused])
        return str(attempt.outcome(refused))
    attempt.was_committed(made[1])
    return made[0]


def wait_for(branch: Branch, stand: Stand, *, flow: str) -> Any:
    """The result of the child execution that `stand` names; the branch stands still until it has ended.

    Raises:
        KitaruUserCodeError: the child's own code raised; its exception is the cause.
        KitaruExecutionError: it ended otherwise.
        KitaruNotFinishedError: the deadline came first.
    """
    attempt = branch.attempt
    call, entry, answer = open_stand(branch, stand)
    if entry is not None:
        attempt.loops.delivered(entry.seq)
        return given(attempt, entry, stand.child)
    if answer is None:
        answer = attempt.parking.stand_at(call.key)
        attempt.check_halted()
    entry, _ = record_end(attempt, call, stand, answer, flow=flow)
    return given(attempt, entry, stand.child)


def record_end(attempt: Attempt, call: Call, stand: Stand, answer: Answer, *, flow: str) -> tuple[Entry, int]:
    """What is recorded of the wait, and its number."""
    assert stand.child is not None
    outcome = Outcome(None, None, "running") if answer.outcome == "expired" else outcome_of(attempt, stand.child)
    entry = entry_of(Kind.WAIT, call, flow, stand.child, outcome)
    return entry, attempt.commit([entry])


def given(attempt: Attempt, entry: Entry, exec_id: str | None) -> Any:
    """The recorded result, or the failure raised; what the result is passed to was made from the child's."""
    try:
        value = attempt.outcome(entry)
    except BaseException:
        attempt.unconsumed.given(entry.key, task_of(this_branch()))
        raise
    if exec_id is not None:
        # A result's id as an artifact is its execution's.
        attempt.lineage.note(value, exec_id, len(entry.value.data) if entry.value else entry.size or 0)
    return value


def peek(branch: Branch, name: str, exec_id: str, *, flow: str) -> Any:
    """The result of a child execution that has ended; what this call found is noted.

    Raises:
        KitaruNotFinishedError: it has not.
        KitaruContextError: inside a checkpoint.
    """
    attempt = branch.attempt
    if branch.call is not None:
        raise KitaruContextError(
            f"a child flow's result was asked for inside checkpoint {branch.call.key}",
            hint="take it in the flow's body, and pass it to the checkpoint",
        )
    call = branch.place(name)
    entry = attempt.recorded.find(call)
    if entry is None:
        entry = entry_of(Kind.NOTE, call, flow, exec_id, outcome_of(attempt, exec_id))
        attempt.commit([entry])
    return given(attempt, entry, exec_id)


def outcome_of(attempt: Attempt, exec_id: str) -> Outcome:
    found: Outcome = attempt.guard(lambda: attempt.journal.outcome(exec_id))
    return found


def entry_of(kind: str, call: Call, flow: str, exec_id: str, outcome: Outcome) -> Entry:
    error = None if outcome.status == "completed" else failure(call, flow, exec_id, outcome)
    return Entry(kind, call.key, now_us(), place=call.place, value=outcome.value, error=error)


def failure(call: Call, flow: str, exec_id: str, outcome: Outcome) -> dict[str, Any]:
    """What the parent sees instead of a result, described; the child's own failure is in it."""
    inner = dict(outcome.error or {})
    hint = f"kitaru executions get {exec_id}"
    error: Exception
    if outcome.status not in ENDED:
        error = KitaruNotFinishedError(f"execution {exec_id} of {flow} had not ended", hint=hint)
    elif outcome.status == "cancelled":
        error = KitaruExecutionError(
            f"execution {exec_id} of {flow} was cancelled", hint=hint, exec_id=exec_id, status="cancelled"
        )
    else:
        kind = KitaruUserCodeError if inner.get("origin") == "user_code" else KitaruExecutionError
        error = kind(
            f"execution {exec_id} of {flow} failed: {inner.get('type')}: {inner.get('message')}", hint=hint,
            exec_id=exec_id, status="failed", failure_origin=inner.get("origin"),
        )  # fmt: skip
    # What is not the child's own code's doing uses up no retry of its parent's.
    is_users = outcome.status not in ENDED or inner.get("origin") == "user_code"
    described = describe_failure(error, origin="user_code" if is_users else "runtime", checkpoint=call.key)
    shown = {name: inner[name] for name in ("traceback", "file", "line") if inner.get(name) is not None}
    return {**described, **shown, **({"cause": inner} if "class" in inner else {})}
