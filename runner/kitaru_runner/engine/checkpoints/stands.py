"""Waits, sleeps and pauses on the engine's side: a branch stands still until an answer, or a time, has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kitaru_registry.clock import now_us
from kitaru_registry.errors import KitaruContextError
from kitaru_registry.journal.entries import Answer, Encoded, Entry, Kind, WaitRequest
from kitaru_registry.journal.keys import PAUSE, Call
from kitaru_runner.engine.checkpoints.reuse import permit
from kitaru_runner.engine.core.attempt import Attempt
from kitaru_runner.engine.core.calls import Branch
from kitaru_runner.engine.core.recorded import answer_of
from kitaru_runner.engine.core.specs import HELD_PAUSE_SECONDS
from kitaru_runner.values.failures import describe_failure


@dataclass(frozen=True, slots=True)
class Question:
    """What `wait(...)` asks for."""

    name: str
    question: str | None = None
    schema: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Stand:
    """What a branch stands at. One outcome is recorded under the call's key."""

    name: str
    kind: str = "input"
    questions: tuple[Question, ...] = ()
    """One; or the several of a `wait_any`, of which the first answer counts."""
    deadline_us: int | None = None
    child: str | None = None


def open_stand(branch: Branch, stand: Stand) -> tuple[Call, Entry | None, Answer | None]:
    """The call's place, its record if it has one, and the answer if it is there already."""
    refuse_in_checkpoint(branch, stand)
    attempt = branch.attempt
    call = place_of(branch, stand)
    entry = attempt.recorded.find(call)
    if entry is not None:
        return call, entry, answer_of(entry)
    permit(attempt, call)
    return call, None, open_anew(attempt, call, stand)


def open_anew(attempt: Attempt, call: Call, stand: Stand) -> Answer | None:
    """Make known what the branch stands at; the answer if it is there already."""
    answer = None
    for request in requests_of(call, stand):
        answer = answer or open_wait(attempt, request)
    return answer


def place_of(branch: Branch, stand: Stand) -> Call:
    """Its call. In a thread without an order it goes by its name, whichever thread it is that stands.

    Raises:
        KitaruContextError: another one of that name was there, and nothing tells them apart.
    """
    if branch.has_order:
        return branch.place(stand.name)
    assert branch.family is not None
    creator = branch.creator
    call = (branch if creator is None else creator.unordered()).place(stand.name)
    if call.key.rpartition("/")[2] != stand.name:
        raise KitaruContextError(
            f"{stand.name} is waited for several times by threads that have no order",
            hint="give each wait a name of its own, or start its thread where the flow sees it",
        )
    return call


def refuse_in_checkpoint(branch: Branch, stand: Stand) -> None:
    if branch.call is not None:
        what = {"sleep": "sleep()", "child": "a child flow"}.get(stand.kind, "wait()")
        raise KitaruContextError(
            f"{what} was called inside checkpoint {branch.call.key}",
            hint=f"call {what} in the flow's body: a checkpoint executes again when it is cut short",
        )


def gave_up_standing(call: Call, error: BaseException) -> Entry:
    """The outcome of a wait whose caller was cancelled."""
    return Entry(Kind.WAIT, call.key, now_us(), place=call.place, error=describe_failure(error))


def open_wait(attempt: Attempt, request: WaitRequest) -> Answer | None:
    found: Answer | None = attempt.guard(lambda: attempt.journal.open_wait(request))
    return found


def requests_of(call: Call, stand: Stand) -> list[WaitRequest]:
    at = now_us()
    several = len(stand.questions) > 1
    if not stand.questions:
        return [
            WaitRequest(
                call.key, stand.name, None, None, None, at, kind=stand.kind, deadline_us=stand.deadline_us,
                child=stand.child,
            )
        ]  # fmt: skip
    return [
        WaitRequest(
            f"{call.key}/{asked.name}" if several else call.key, asked.name, asked.question, asked.schema,
            asked.metadata, at, kind=stand.kind, deadline_us=stand.deadline_us, any_of=call.key if several else None,
        )
        for asked in stand.questions
    ]  # fmt: skip


def stand_at(branch: Branch, stand: Stand) -> Answer:
    """The outcome. The branch stands still until it is there."""
    attempt = branch.attempt
    call, entry, answer = open_stand(branch, stand)
    if entry is not None:
        attempt.loops.delivered(entry.seq)
        assert answer is not None
        return replace(answer, key=call.key)
    if answer is None:
        answer = attempt.parking.stand_at(call.key)
        attempt.check_halted()
    record_answer(attempt, call, answer)
    return replace(answer, key=call.key)


def pause_request(call: Call, failed_us: int, left_us: int) -> WaitRequest:
    """A timer of its own for each pause: the failure that it follows is part of its key."""
    at = now_us()
    key = f"{call.key}{PAUSE}{failed_us}"
    return WaitRequest(key, call.name, None, None, None, at, kind="sleep", deadline_us=at + left_us)


def pause_before_try(attempt: Attempt, call: Call, left_us: int) -> None:
    """Let a pause pass: in place if it is short, else as a durable timer, which holds no process."""
    if left_us <= HELD_PAUSE_SECONDS * 1_000_000:
        attempt.parking.begin()
        try:
            attempt.parking.hold(left_us / 1_000_000)
        finally:
            attempt.parking.end()
        attempt.check_halted()
        return
    request = pause_request(call, attempt.recorded.failed_tries(call.key)[1], left_us)
    if open_wait(attempt, request) is None:
        attempt.parking.stand_at(request.key)
        attempt.check_halted()


def record_answer(attempt: Attempt, call: Call, answer: Answer) -> int:
    """A wait's outcome; its number in the journal."""
    said = None if answer.outcome == "answered" else {"outcome": answer.outcome}
    value = Encoded("json", answer.data)
    return attempt.commit([Entry(Kind.WAIT, call.key, now_us(), place=call.place, value=value, metadata=said)])
