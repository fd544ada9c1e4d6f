"""One attempt at an execution: what is recorded, how more is, in order, and that it was halted.

All that runs a flow stands on this: checkpoints, threads, loops, waits. What the flow sees is always what reading the
journal would give: `decode(encode(value))`, a rebuilt exception. An attempt is the same in a child and in the process
of a `.run()`; only the `Journal` below it differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any, NoReturn, TypeVar

from kitaru_registry.clock import now_us
from kitaru_registry.errors import KitaruBackendError, KitaruError, KitaruFencedError, KitaruUsageError
from kitaru_registry.journal.entries import ARGUMENT_CHANGED, GIVEN, Encoded, Entry, Kind, Opening, Outcome
from kitaru_registry.journal.interface import Journal
from kitaru_registry.journal.keys import Call
from kitaru_runner.engine.core.diverging import divergence
from kitaru_runner.engine.core.halting import Halting
from kitaru_runner.engine.core.interrupts import Executing
from kitaru_runner.engine.core.lineage import Lineage
from kitaru_runner.engine.core.loops import Loops
from kitaru_runner.engine.core.matching import Families
from kitaru_runner.engine.core.order import Turnstile
from kitaru_runner.engine.core.pace import MACHINE, Pace
from kitaru_runner.engine.core.parking import Parking
from kitaru_runner.engine.core.recorded import Recorded, last_seq
from kitaru_runner.engine.core.unconsumed import Unconsumed
from kitaru_runner.engine.core.watching import changed_argument
from kitaru_runner.values import codec
from kitaru_runner.values.failures import ExecutionCancelled, rebuild

T = TypeVar("T")


class Attempt:
    def __init__(
        self, journal: Journal, opening: Opening, *, fenced: Callable[[], object] | None = None, pace: Pace = MACHINE
    ) -> None:
        """
        Args:
            pace: how its threads take turns, and how its short pauses pass.
            fenced: what to do when another attempt owns the execution: a child ends at once. By default the error
                is raised, from this call and every later one.
        """
        self.exec_id = opening.exec_id
        self.opening = opening
        self.journal = journal
        self.recorded = Recorded(opening)
        self.families = Families(opening.entries, self.diverge)
        self.lineage = Lineage()
        self.pace = pace
        self.point = None if pace is MACHINE else pace.point
        """See Pace.point; None where that does nothing."""
        self.loops = Loops()
        self.halting = Halting()
        self.parking = Parking(self.halting, pace, self.loops, self.park)
        self.halting.hear(self.loops.halted)
        self.unconsumed = Unconsumed()
        self.executing = Executing()
        self.root: str | None = None
        """Folder of the deployed code that runs; None in an execution that runs from source."""
        self._fenced = fenced
        self._turnstile = Turnstile(last_seq(opening.entries), pace)
        self._diverging = Lock()
        self._end_main: Callable[[], object] | None = None
        self._making = Lock()
        self._its: dict[object, Any] = {}

    def its(self, kind: Callable[[Attempt], T]) -> T:
        """The one of that kind that belongs to this attempt: made of it when somebody first asks."""
        found: T | None = self._its.get(kind)
        if found is None:
            with self._making:
                found = self._its.get(kind)
                if found is None:
                    found = self._its[kind] = kind(self)
        return found

    # Whether it goes on

    def admit(self, name: str, what: str = "") -> None:
        """Raise where no call can be made any more: the attempt was halted."""
        if self.halting.error is not None:
            raise self.halting.error

    def check_halted(self) -> None:
        self.halting.check()

    @property
    def is_halted(self) -> bool:
        return self.halting.error is not None

    @property
    def could_not_write(self) -> KitaruBackendError | None:
        """Why nothing can be recorded any more."""
        return self.halting.error if isinstance(self.halting.error, KitaruBackendError) else None

    @property
    def is_cancelled(self) -> bool:
        return isinstance(self.halting.error, ExecutionCancelled)

    def halt(self, error: BaseException) -> None:
        """Let every later call, and everyone who stands at a wait, raise this."""
        self.halting.halt(error)

    def has_loop(self, end_main: Callable[[], object]) -> None:
        """The flow's body is asynchronous: `end_main` cancels its main task, from any thread."""
        self._end_main = end_main
        self.check_halted()

    @property
    def can_be_asked_to_end(self) -> bool:
        """Whether the flow's body is asynchronous, so that a cancellation lets it clean up."""
        return self._end_main is not None

    def cancel(self) -> None:
        """Let the flow end as soon as it can; nothing is recorded any more."""
        self.halt(ExecutionCancelled())
        if self._end_main is not None:
            self._end_main()
        self.executing.strike()

    def end(self) -> None:
        """The flow's body is over: threads that it left behind go on to nothing."""
        with self._diverging:
            pass  # another thread has found that, and is about to record it
        if not self.is_halted:
            self.halt(KitaruFencedError("the flow has ended"))

    # What is recorded

    def check_place(self, call: Call) -> None:
        """
        Raises:
            KitaruDivergenceError: the journal holds another call at this place; the execution has failed.
        """
        expected = self.recorded.expected_at(call)
        if expected is not None and expected.key != call.key:
            where = f" in {call.scope.rstrip('/')}" if call.scope else ""
            self.diverge(
                call,
                f"call {call.place + 1}{where} is {call.key}, but the journal holds {expected.key} there",
                "a flow's body must make the same calls in the same order",
            )

    def diverge(self, call: Call, message: str, rule: str) -> NoReturn:
        error, described = divergence(self.exec_id, call, message, rule)
        with self._diverging:
            self.check_halted()
            self.halting.error = error
            self.guard(lambda: self.journal.finish(Outcome(None, described)))
        raise error

    def outcome(self, entry: Entry) -> Any:
        """The recorded value; or the recorded failure, raised."""
        if entry.flags & ARGUMENT_CHANGED:
            raise changed_argument(self.recorded, entry)
        if entry.error is not None:
            raise rebuild(entry.error)
        value = self.value(entry)
        decoded = codec.decode(value) if not entry.flags & GIVEN else decode_given(value, entry.key)
        return self.noted(decoded, entry.key, len(value.data))

    def value(self, entry: Entry) -> Encoded:
        """The recorded value, which may not have come with its entry."""
        if entry.value is not None:
            return entry.value
        found: Encoded = self.guard(lambda: self.journal.value(entry))
        return found

    def noted(self, value: Any, key: str, size: int) -> Any:
        """The value, which is the outcome of that key from now on."""
        self.lineage.note(value, key, size)
        return value

    # Writing

    def commit(self, entries: Sequence[Entry], act: Callable[[int], None] | None = None) -> int:
        """Make entries durable; then, in the order of the journal, act on the last one's number, which is returned."""
        if self.point is not None:
            self.point()

        def recorded(last: int) -> None:
            self._turnstile.pass_through(last - len(entries) + 1, last, act)

        try:
            last = self.executing.aside(self.journal.record, entries, recorded)
        except (KitaruFencedError, KitaruBackendError) as error:
            self._refused(error)
            raise
        if self.point is not None:
            self.point()
        if self._turnstile.passed < last:
            self._turnstile.wait_for(last)
        return last

    @property
    def passed(self) -> int:
        """The number of the last outcome that was handed out."""
        return self._turnstile.passed

    def was_committed(self, seq: int) -> None:
        """An entry that the journal has made by itself: whatever is later may pass."""
        self._turnstile.pass_through(seq, seq)
        self._turnstile.wait_for(seq)

    def guard(self, write: Callable[..., Any], *args: Any) -> Any:
        try:
            return self.executing.aside(write, *args)
        except KitaruFencedError as error:
            self._refused(error)
            raise

    def write(self, write: Callable[..., Any], *args: Any) -> Any:
        """What is to be durable, or the attempt ends: user code that swallowed the error would go on unrecorded."""
        try:
            return self.executing.aside(write, *args)
        except (KitaruFencedError, KitaruBackendError) as error:
            self._refused(error)
            raise

    def _refused(self, error: KitaruFencedError | KitaruBackendError) -> None:
        """Nothing can be recorded any more: another attempt owns the execution, or the record cannot be written."""
        if isinstance(error, KitaruBackendError):
            self.halt(error)
            return
        if self._fenced is not None:
            self._fenced()
        self.halting.error = error

    def park(self) -> None:
        self.guard(self.journal.park)

    def finish(self, value: Encoded | None, error: dict[str, Any] | None) -> bool:
        """End the execution; whether it begins anew."""
        if self.is_halted:
            return False
        return bool(self.write(lambda: self.journal.finish(Outcome(value, error))))

    # Remarks

    def warn(self, key: str, message: str) -> None:
        self.remark(key, {"warning": message})

    def remark(self, key: str, said: Mapping[str, Any]) -> None:
        """Record that, once."""
        if self.recorded.has(key):
            return
        entry = Entry(Kind.REMARK, key, now_us(), metadata=said)
        self.recorded.add(entry)
        self.commit([entry])

    def note_use(self, entry: Entry) -> None:
        """Record, once, that the flow came to a call whose outcome the replay had only kept: now it is this one's."""
        if entry.kind == Kind.CALL and entry.seq <= (self.opening.replay or {}).get("copied", 0):
            self.remark(f"{entry.key}!kept", {"used": True})


def decode_given(value: Encoded, key: str) -> Any:
    """What somebody wrote in place of an outcome, as the type that the recorded one had.

    Raises:
        KitaruUsageError: it is none of that type.
    """
    try:
        return codec.decode(value)
    except KitaruError:
        raise
    except Exception as error:  # whatever a type of the user's says of what it cannot be made of
        said = f"{type(error).__name__}: {error}"
        raise KitaruUsageError(f"what was given for checkpoint.{key} does not fit: {said}") from error
