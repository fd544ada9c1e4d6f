"""Values that were not kept, under `record="digest"`: executed again, and compared with the recorded digest."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kitaru_registry.journal.entries import Encoded, Entry
from kitaru_registry.journal.keys import Call
from kitaru_runner.engine.checkpoints.isolated import IsolatedTry
from kitaru_runner.engine.checkpoints.tries import call_in, digest_of, value_of
from kitaru_runner.engine.core.calls import Branch
from kitaru_runner.engine.core.passing import is_live
from kitaru_runner.engine.core.specs import HELD_PAUSE_SECONDS, CheckpointSpec, Work
from kitaru_runner.values import codec
from kitaru_runner.values.failures import describe_unkept, rebuild

if TYPE_CHECKING:
    from kitaru_runner.engine.core.attempt import Attempt


class Remaking:
    """Each value once in an attempt, whoever asks first."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._values: dict[str, Encoded] = {}

    def again(self, entry: Entry, call: Call, work: Work, branch: Branch) -> Encoded:
        """The value of a call under `record="digest"`, executed again, once in this attempt."""
        return self._once(call.key, lambda: self._remake(entry, call, work, branch))

    def _remake(self, entry: Entry, call: Call, work: Work, branch: Branch) -> Encoded:
        failed = 0
        while True:
            self._attempt.check_halted()
            self._attempt.parking.begin()
            try:
                return perform_again(branch.open_try(call, entry.tries or 1), call, work)
            except Exception as error:
                if is_live(error):
                    raise
                failed += 1
                if not work.spec.retries_after(error, failed):
                    raise rebuild(describe_unkept(error, checkpoint=call.key)) from None
            finally:
                self._attempt.parking.end()
            self._attempt.parking.hold(pause_in_place(work.spec, failed, call))

    def checked(self, entry: Entry, encoded: Encoded) -> Any:
        """The value of a call under `record="digest"`, executed again; a warning where it is another one now."""
        if entry.value is not None and digest_of(encoded).data != entry.value.data:
            self._attempt.warn(
                f"{entry.key}!value", f"{entry.key} gave another value than the one whose digest is recorded"
            )
        return self._attempt.noted(codec.decode(encoded), entry.key, len(encoded.data))

    def _once(self, key: str, make: Callable[[], Encoded]) -> Encoded:
        with self._lock:
            own = self._locks.setdefault(key, threading.Lock())
        self._attempt.pace.until(lambda: not own.locked())
        with own:
            if key not in self._values:
                self._values[key] = make()
            return self._values[key]


def pause_in_place(spec: CheckpointSpec, failed_tries: int, call: Call) -> float:
    """Seconds between tries of a value that is made again: nothing of them is recorded, so nothing can park."""
    return min(spec.backoff.pause_us(failed_tries, salt=call.key) / 1_000_000, HELD_PAUSE_SECONDS)


def perform_again(branch: Branch, call: Call, work: Work) -> Encoded:
    """The value of a recorded call whose value was not kept; what it calls has the keys that are recorded."""
    if work.spec.isolated:
        return value_of(IsolatedTry(branch.attempt, call, work).execute())
    return codec.encode(call_in(branch, call, work))
