"""One try of a checkpoint, and what becomes its journal entry."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from kitaru_registry.clock import now_us
from kitaru_registry.errors import KitaruTimeoutError
from kitaru_runner import codec
from kitaru_runner.context import Branch, Call
from kitaru_runner.failures import describe_failure, recorded_failure
from kitaru_runner.pacing import Pace
from kitaru_runner.protocol import DIGEST_ONLY, REPLAY_NEVER, Encoded, Entry
from kitaru_runner.recorded import name_in
from kitaru_runner.specs import CheckpointSpec, Work

DIGEST_CODEC = "digest"
"""The "value" of `record="digest"`: its sha256."""


@dataclass(frozen=True, slots=True)
class Executed:
    """What a try came to."""

    entry: Entry
    encoded: Encoded | None = None
    """The value as the flow gets it, also where it is not kept."""


@dataclass(frozen=True, slots=True)
class Try:
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
        kept = digest_of(encoded) if self.spec.record == "digest" else encoded
        return Executed(self._entry("c", kept, None), encoded)

    def failed(self, error: BaseException) -> Executed:
        kind = "t" if self.spec.retries_after(error, self.number) else "c"
        return Executed(self._entry(kind, None, describe_failure(error, checkpoint=self.call.key)))

    def cancelled(self, error: BaseException) -> Executed:
        """It failed, and is not tried again: its caller gave up, or no codec carries its value."""
        return Executed(self._entry("c", None, describe_failure(error, checkpoint=self.call.key)))

    def _entry(self, kind: str, value: Encoded | None, error: dict[str, Any] | None) -> Entry:
        call, branch = self.call, self.branch
        kept = self.spec.record == "value"
        return Entry(
            kind=kind,
            key=call.key,
            ended_us=now_us(),
            name=None if name_in(call.key) == call.name else call.name,
            value=value,
            error=error,
            tries=self.number if self.number > 1 or kind == "t" else None,
            place=call.place,
            type=self.spec.type,
            inputs=self.inputs,
            started_us=self.started_us,
            saved=tuple(branch.saved) if error is None else (),
            metadata=dict(branch.metadata) or None,
            cache_key=self.cache_key if kind == "c" and error is None and kept else None,
            parents=self.parents,
            flags=flags_of(self.spec),
        )


def not_called(call: Call, spec: CheckpointSpec, error: BaseException, *, inputs: bytes | None = None) -> Entry:
    """The outcome of a call that was not made to the end: its caller gave up, or another one's failure prevented it."""
    recorded = recorded_failure(error)
    described = dict(recorded) if recorded is not None else describe_failure(error, checkpoint=call.key)
    name = None if name_in(call.key) == call.name else call.name
    return Entry("c", call.key, now_us(), name=name, error=described, place=call.place, type=spec.type, inputs=inputs)


def flags_of(spec: CheckpointSpec) -> int:
    return (REPLAY_NEVER if spec.replay == "never" else 0) | (DIGEST_ONLY if spec.record == "digest" else 0)


def digest_of(encoded: Encoded) -> Encoded:
    return Encoded(DIGEST_CODEC, sha256(encoded.data).digest())


def timed_out(work: Work, call: Call) -> KitaruTimeoutError:
    return KitaruTimeoutError(
        f"checkpoint {call.key} took longer than its timeout of {work.spec.timeout_seconds:g} s",
        hint=f"give it longer: @checkpoint(timeout=...) above {work.spec.name}",
    )


def call_in_time(work: Work, call: Call, pace: Pace) -> Any:
    """What the function returns, in a thread of its own that is left behind when its time is over.

    A thread cannot be ended from outside: an exception is put into it, which Python code raises at its next
    instruction, and a call that blocks in C at its end. Whatever it does after that is not recorded.

    Raises:
        KitaruTimeoutError: the time was over first.
    """
    done = threading.Event()
    ended: list[Callable[[], Any]] = []
    context = copy_context()

    def run() -> None:
        try:
            value = context.run(work.function, *work.args, **work.kwargs)
        except BaseException as failure:
            error = failure
            ended.append(lambda: throw(error))
        else:
            ended.append(lambda: value)
        done.set()

    thread = pace.start(run, f"kitaru-{work.spec.name}", daemon=True)
    assert work.spec.timeout_seconds is not None
    if not pace.pause(work.spec.timeout_seconds, done):
        pace.interrupt(thread)
        raise timed_out(work, call)
    return ended[0]()


def throw(error: BaseException) -> None:
    raise error
