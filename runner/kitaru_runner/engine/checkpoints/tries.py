"""One try of a checkpoint, and what becomes its journal entry."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextvars import Context
from hashlib import sha256
from typing import Any, NamedTuple

from kitaru_registry.clock import now_us
from kitaru_registry.errors import KitaruBackendError, KitaruCrashError, KitaruTimeoutError, KitaruUsageError
from kitaru_registry.journal.entries import (
    ARGUMENT_CHANGED,
    DIGEST_CODEC,
    DIGEST_ONLY,
    REPLAY_NEVER,
    Encoded,
    Entry,
    Kind,
)
from kitaru_registry.journal.giving_up import OWN_CANCELLATION
from kitaru_registry.journal.keys import Call
from kitaru_runner.engine.checkpoints.contexts import context_of_try
from kitaru_runner.engine.checkpoints.isolated import IsolatedTry
from kitaru_runner.engine.checkpoints.other_arguments import check_new
from kitaru_runner.engine.core.calls import Branch, Left, Span
from kitaru_runner.engine.core.passing import PASSED, is_live, steers
from kitaru_runner.engine.core.specs import CheckpointSpec, Work, timed_out
from kitaru_runner.engine.core.watching import CHANGED, Watch, told_of, watch
from kitaru_runner.values import codec
from kitaru_runner.values.exceptions import recorded_failure
from kitaru_runner.values.failures import describe_failure, describe_unkept, rebuild


class Executed(NamedTuple):
    """What a try came to."""

    entry: Entry
    encoded: Encoded | None = None
    """The value as the flow gets it, also where it is not kept."""


class Try(NamedTuple):
    call: Call
    spec: CheckpointSpec
    branch: Branch
    number: int
    started_us: int
    inputs: bytes
    parents: tuple[str, ...] = ()
    cache_key: bytes | None = None

    def returned(self, value: object) -> Executed:
        try:
            encoded = codec.encode(value)
        except Exception as error:  # no codec carries it: the checkpoint did not succeed
            return self.cancelled(error)
        return self.encoded(encoded)

    def encoded(self, encoded: Encoded) -> Executed:
        call, spec = self.call, self.spec
        if (
            spec.type or spec.record != "value" or spec.replay != "allowed" or self.number > 1 or self.parents
            or self.cache_key or self.branch.left_behind or shown_name(call)
        ):  # fmt: skip
            kept = digest_of(encoded) if spec.record == "digest" else encoded
            return Executed(self._entry(Kind.CALL, kept, None), encoded)
        # Most have nothing but this.
        entry = Entry(Kind.CALL, call.key, now_us(), encoded, call.place, self.inputs, self.started_us)
        return Executed(entry, encoded)

    def failed(self, error: BaseException) -> Executed:
        if steers(error, self.spec.passes):
            return Executed(self._entry(Kind.CALL, None, {**self._described(error), PASSED: True}))
        try:
            again = self.spec.retries_after(error, self.number)
        except Exception as broken:  # retry_on cannot say: that is what the checkpoint fails with
            return self.cancelled(broken)
        return Executed(self._entry(Kind.TRY if again else Kind.CALL, None, self._described(error)))

    def failed_as(self, described: Mapping[str, Any], *, final: bool) -> Executed:
        """It failed in another process, which described how."""
        rebuilt = rebuild(described)
        if is_live(rebuilt):
            self.passed()
            raise rebuilt
        if steers(rebuilt, self.spec.passes):
            return self.failed(rebuilt)
        if not final:
            try:
                final = not self.spec.retries_after(rebuild(described), self.number)
            except Exception as broken:
                return self.cancelled(broken)
        kept = dict(described) if self.spec.record == "value" else self._described(rebuild(described))
        return Executed(self._entry(Kind.CALL if final else Kind.TRY, None, kept))

    def passed(self) -> None:
        """It ended with what is not recorded: whoever called goes on by it."""
        self.branch.attempt.journal.left(self.call.key, self.number)

    def cancelled(self, error: BaseException) -> Executed:
        """It failed, and is not tried again: its caller gave up, or no codec carries its value."""
        return Executed(self._entry(Kind.CALL, None, self._described(error)))

    def checked(self, ended: Executed, before: Watch) -> Executed:
        """The same; an error beside what came of it, where the call has changed its arguments."""
        changed = before.changed()
        if not changed:
            return ended
        self.branch.attempt.warn(f"{self.call.key}{CHANGED}", told_of(self.call, changed))
        flags = ended.entry.flags | ARGUMENT_CHANGED
        return ended._replace(entry=ended.entry._replace(kind=Kind.CALL, flags=flags, cache_key=None))

    def _described(self, error: BaseException) -> dict[str, Any]:
        describe = describe_failure if self.spec.record == "value" else describe_unkept
        return describe(error, checkpoint=self.call.key)

    def cancelled_itself(self, error: BaseException) -> Executed:
        """It failed with what looks like its caller's giving up."""
        described = {**describe_failure(error, checkpoint=self.call.key), OWN_CANCELLATION: True}
        return Executed(self._entry(Kind.CALL, None, described))

    def _entry(self, kind: str, value: Encoded | None, error: dict[str, Any] | None) -> Entry:
        call, spec = self.call, self.spec
        left = self.branch.left_behind or Left()
        return Entry(
            kind=kind,
            key=call.key,
            ended_us=now_us(),
            name=shown_name(call),
            value=value,
            error=error,
            tries=self.number if self.number > 1 or kind == Kind.TRY else None,
            place=call.place,
            type=spec.type,
            inputs=self.inputs,
            started_us=self.started_us,
            saved=tuple(left.saved) if error is None else (),
            metadata=dict(left.metadata) or None,
            cache_key=self.cache_key if kind == Kind.CALL and error is None and spec.record == "value" else None,
            parents=tuple(dict.fromkeys((*self.parents, *left.loaded))) if left.loaded else self.parents,
            flags=flags_of(spec),
        )


def not_called(call: Call, spec: CheckpointSpec, error: BaseException) -> Entry:
    """The outcome of a call that another one's failure kept from being made: that failure."""
    recorded = recorded_failure(error)
    described = dict(recorded) if recorded is not None else describe_failure(error, checkpoint=call.key)
    return Entry(
        Kind.CALL, call.key, now_us(), name=shown_name(call), error=described, place=call.place, type=spec.type
    )


def unrecordable(ended: Executed, error: KitaruUsageError) -> Executed:
    """That an outcome cannot be recorded, as a failure in its place.

    Raises:
        KitaruUsageError: this could not be either.
    """
    entry = ended.entry
    if entry.value is None and entry.metadata is None:
        raise error
    described = describe_failure(error, checkpoint=entry.key)
    failure = Entry(
        Kind.CALL, entry.key, now_us(), name=entry.name, error=described, tries=entry.tries, place=entry.place,
        type=entry.type, inputs=entry.inputs, started_us=entry.started_us, flags=entry.flags,
    )  # fmt: skip
    return Executed(failure)


def flags_of(spec: CheckpointSpec) -> int:
    return (REPLAY_NEVER if spec.replay == "never" else 0) | (DIGEST_ONLY if spec.record == "digest" else 0)


def digest_of(encoded: Encoded) -> Encoded:
    return Encoded(DIGEST_CODEC, sha256(encoded.data).digest())


def begin_try(
    call: Call, work: Work, branch: Branch, inputs: bytes, *, number: int, cache_key: bytes | None
) -> Try:  # fmt: skip
    attempt = branch.attempt
    if attempt.halting.error is not None:
        raise attempt.halting.error
    if attempt.recorded.mistaken:
        check_new(attempt, call, inputs)
    if attempt.point is not None:
        attempt.point()
    started_us = now_us()
    attempt.parking.begin()
    attempt.journal.started(call.key, call.name, number, started_us)
    parents = attempt.lineage.parents(work.args, work.kwargs)
    return Try(call, work.spec, branch.open_try(call, number), number, started_us, inputs, parents, cache_key)


def perform(this_try: Try, work: Work) -> Executed:
    """Make a synchronous try; what it came to."""
    if work.spec.isolated:
        return isolated(IsolatedTry(this_try.branch.attempt, this_try.call, work), this_try)
    before = watch(work, this_try.inputs, scope=this_try.call.scope)
    try:
        value = call_in(this_try.branch, this_try.call, work)
    except Exception as error:
        if is_live(error):
            this_try.passed()
            raise
        ended = this_try.failed(error)
    else:
        ended = this_try.returned(value)
    return ended if before is None else this_try.checked(ended, before)


def call_in(branch: Branch, call: Call, work: Work) -> Any:
    """What the function returns, in the scope of a try, within its timeout."""
    context = context_of_try(branch)
    if work.spec.timeout_seconds is not None:
        return call_in_time(work, branch, call, context)
    return context.run(branch.attempt.executing.run, work)


def isolated(own: IsolatedTry, this_try: Try) -> Executed:
    """What a try in a process of its own came to.

    Raises:
        Exception: the attempt was halted, which ended that process.
    """
    try:
        entry = own.execute()
    except (KitaruCrashError, KitaruTimeoutError, KitaruBackendError) as error:
        return this_try.failed(error)
    except KitaruUsageError as error:
        return this_try.cancelled(error)
    this_try.branch.left.saved.extend(entry.saved)
    this_try.branch.left.log(entry.metadata or {})
    this_try.branch.left.loaded.extend(entry.parents)
    if entry.error is not None:
        return this_try.failed_as(entry.error, final=entry.kind == Kind.CALL)
    assert entry.value is not None
    return this_try.encoded(entry.value)


def value_of(ended: Entry) -> Encoded:
    if ended.error is not None:
        raise rebuild(ended.error)
    assert ended.value is not None
    return ended.value


def cached_entry(call: Call, spec: CheckpointSpec, inputs: bytes, value: Encoded, of: str) -> Executed:
    """The outcome of a call that `of`, a call of some execution, has made before."""
    at = now_us()
    entry = Entry(
        Kind.CALL, call.key, at, name=shown_name(call), value=value, place=call.place, type=spec.type, inputs=inputs,
        started_us=at, metadata={"cached": of}, flags=flags_of(spec),
    )  # fmt: skip
    return Executed(entry, value)


def not_begun(call: Call, spec: CheckpointSpec, error: BaseException, *, tries: int) -> Entry:
    """Its caller gave up before a try, or between two."""
    return Entry(
        Kind.CALL, call.key, now_us(), name=shown_name(call), error=describe_failure(error, checkpoint=call.key),
        tries=tries or None, place=call.place, type=spec.type, flags=flags_of(spec),
    )  # fmt: skip


def shown_name(call: Call) -> str | None:
    """The checkpoint's name, where its key does not say it."""
    return None if call.key.rpartition("/")[2].partition("#")[0] == call.name else call.name


def call_in_time(work: Work, branch: Branch, call: Call, context: Context) -> Any:
    """What the function returns, in a thread of its own that is left behind when its time is over.

    A thread cannot be ended from outside: an exception is put into it, which Python code raises at its next
    instruction, and a call that blocks in C at its end. Whatever it does after that is not recorded.

    Raises:
        KitaruTimeoutError: the time was over first.
    """
    span = branch.span = Span(branch.span)
    done = threading.Event()
    ended: list[Callable[[], Any]] = []

    def run() -> None:
        try:
            value = context.run(branch.attempt.executing.run, work)
        except BaseException as failure:
            error = failure
            ended.append(lambda: throw(error))
        else:
            ended.append(lambda: value)
        done.set()

    pace = branch.attempt.pace
    thread = pace.start(run, f"kitaru-{work.spec.name}", daemon=True)
    assert work.spec.timeout_seconds is not None
    if not pace.pause(work.spec.timeout_seconds, done):
        span.end()
        pace.interrupt(thread, branch.attempt.executing)
        raise timed_out(work.spec, call.key)
    return ended[0]()


def throw(error: BaseException) -> None:
    raise error
