"""Replay and checkpoints: the flow's body runs from the top against its journal.

A call whose key is in the journal gives its recorded outcome, value or failure; the first that is not there executes,
and its outcome is durable before the flow sees it. What the flow sees is always what reading the journal would give:
`decode(encode(value))`, a rebuilt exception. The same engine runs in a child and in the process of a `.run()`; only
the `Journal` below it differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Lock, get_ident
from typing import Any, NoReturn

from kitaru_registry.clock import now_us
from kitaru_registry.errors import (
    KitaruBackendError,
    KitaruFencedError,
    KitaruTimeoutError,
    KitaruUsageError,
)
from kitaru_runner import codec, forking
from kitaru_runner.arguments import digest_inputs
from kitaru_runner.cache_keys import cache_key
from kitaru_runner.context import Branch, Call, active, without_order
from kitaru_runner.creation import creation
from kitaru_runner.diverging import divergence
from kitaru_runner.executing import Executing
from kitaru_runner.failures import ExecutionCancelled, rebuild
from kitaru_runner.futures import CheckpointFuture, Deliveries, Turnstile, futures_in, with_values
from kitaru_runner.isolating import Processes
from kitaru_runner.lanes import Lane, Lanes, Slot
from kitaru_runner.lineage import Lineage
from kitaru_runner.loops import Loops
from kitaru_runner.matching import Families
from kitaru_runner.other_arguments import check_arguments, check_new
from kitaru_runner.pacing import MACHINE, Pace
from kitaru_runner.parking import Parking
from kitaru_runner.pausing import pause
from kitaru_runner.pool import Pool
from kitaru_runner.protocol import ARGUMENT_CHANGED, GIVEN, Answer, Encoded, Entry, Journal, Opening, Outcome, Saved
from kitaru_runner.recorded import Recorded, failed_key, is_unkept, last_seq
from kitaru_runner.remaking import Remaking
from kitaru_runner.reusing import decode_given, reusable
from kitaru_runner.specs import CheckpointSpec, Work
from kitaru_runner.submitting import Submission
from kitaru_runner.trying import Executed, Try, not_called, perform, unrecordable
from kitaru_runner.unconsumed import Unconsumed
from kitaru_runner.watching import changed_argument

POOL_THREADS = 128


class Engine:
    """One attempt at an execution."""

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
        self.families = Families(self)
        self.lineage = Lineage()
        self.pace = pace
        self.parking = Parking(self)
        self.unconsumed = Unconsumed()
        self.deliveries = Deliveries(self.parking, self.unconsumed)
        self.lanes = Lanes(pace)
        self.pool = Pool(POOL_THREADS, pace)
        self.isolated = Processes()
        self._fenced = fenced
        self._turnstile = Turnstile(last_seq(opening.entries), pace)
        self._halted: BaseException | None = None
        self._diverging = Lock()
        self.executing = Executing()
        self._end_main: Callable[[], object] | None = None
        self.root: str | None = None
        """Folder of the deployed code that runs; None in an execution that runs from source."""
        self._tasks: set[Any] = set()
        self.remaking = Remaking(self)
        self.loops = Loops()

    def enter(self, *, caller_is_plain: bool) -> None:
        forking.watch(self)
        active.enter(caller_is_plain=caller_is_plain)
        creation.begin()

    def leave(self) -> None:
        self.isolated.end()
        self.loops.leave()
        creation.end()
        active.leave()

    # Calls: keys, divergence

    def place(self, branch: Branch, name: str, id_: str | None = None) -> Call:
        """The call's key in its branch, after checking that the journal agrees.

        Raises:
            KitaruDivergenceError: the journal holds another call at this place; the execution has failed.
        """
        if self._halted is not None:
            raise self._halted
        if branch.span is not None:
            self.check_time(branch)
        call = branch.next_call(name, id_)
        if branch.family is not None:
            self.parking.count(get_ident())
        expected = self.recorded.expected_at(call) if self.recorded.has_places else None
        if expected is not None and expected.key != call.key:
            where = f" in {call.scope.rstrip('/')}" if call.scope else ""
            self.diverge(
                call,
                f"call {call.place + 1}{where} is {call.key}, but the journal holds {expected.key} there",
                "a flow's body must make the same calls in the same order",
            )
        return call

    def diverge(self, call: Call, message: str, rule: str) -> NoReturn:
        error, described = divergence(self.exec_id, call, message, rule)
        with self._diverging:
            self.check_halted()
            self._halted = error
            self.guard(lambda: self.journal.finish(Outcome(None, described)))
        raise error

    def keep(self, task: Any) -> None:
        """Hold a task of the flow's loop, which itself holds only weak references."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def check_halted(self) -> None:
        if self._halted is not None:
            raise self._halted

    def check_time(self, branch: Branch) -> None:
        """Raise where the code that calls was left behind by a timeout: nothing of it is recorded."""
        if branch.call is not None and branch.is_over:
            raise KitaruTimeoutError(f"the time of checkpoint {branch.call.key} is over")

    @property
    def is_halted(self) -> bool:
        return self._halted is not None

    @property
    def could_not_write(self) -> KitaruBackendError | None:
        """Why nothing can be recorded any more."""
        return self._halted if isinstance(self._halted, KitaruBackendError) else None

    def halt(self, error: BaseException) -> None:
        """Let every later call, and everyone who stands at a wait, raise this."""
        self._halted = error
        self.isolated.end()
        self.parking.wake()
        self.loops.halted(error)

    @property
    def is_cancelled(self) -> bool:
        return isinstance(self._halted, ExecutionCancelled)

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
        if self._halted is None:
            self.halt(KitaruFencedError("the flow has ended"))

    # Writing

    def commit(self, entries: Sequence[Entry], act: Callable[[int], None] | None = None) -> int:
        """Make entries durable; then, in the order of the journal, act on the last one's number, which is returned."""
        self.pace.point()

        def recorded(last: int) -> None:
            self._turnstile.pass_through(last - len(entries) + 1, last, act)

        try:
            last = self.executing.aside(self.journal.record, entries, recorded)
        except (KitaruFencedError, KitaruBackendError) as error:
            self._refused(error)
            raise
        self.pace.point()
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
        self._halted = error

    def park(self) -> None:
        self.guard(self.journal.park)

    def finish(self, value: Encoded | None, error: dict[str, Any] | None) -> bool:
        """End the execution; whether it begins anew."""
        if self._halted is not None:
            return False
        return bool(self.write(lambda: self.journal.finish(Outcome(value, error))))

    # Checkpoints

    def checkpoint(self, branch: Branch, work: Work, *, id_: str | None = None) -> Any:
        """The outcome of a synchronous call: recorded, or executed and recorded."""
        call = self.place(branch, work.spec.name, id_)
        inputs = digest_inputs(work.arguments())
        if branch.family is not None and id_ is None:
            call = branch.family.find(branch, call, inputs)
        entry = self.recorded.find(call, inputs)
        try:
            if entry is None:
                return self.executed(self._execute(call, work, branch, inputs))
            return self._replay(entry, call, work, branch, inputs)
        except Exception as error:
            self.unconsumed.given(call.key, branch, error)
            raise

    def _replay(self, entry: Entry, call: Call, work: Work, branch: Branch, inputs: bytes) -> Any:
        self.warn_of_other_inputs(call, entry, inputs, work.arguments)
        return self.replayed(entry, lambda: self.remaking.again(entry, call, work, branch))

    def submit(
        self, branch: Branch, work: Work, *, after: Sequence[CheckpointFuture[Any]] = (), lanes: Sequence[Lane] = (),
        id_: str | None = None,
    ) -> CheckpointFuture[Any]:  # fmt: skip
        """A future of the call's outcome; `branch` is the scope that was opened for it.

        Args:
            after: what is to end first. Futures among the arguments are too, and their values are passed.
            lanes: each limits how many calls execute at once.
        """
        call = self.place(branch, work.spec.name, id_)
        future: CheckpointFuture[Any] = CheckpointFuture(self.deliveries, key=call.key)
        first = (*after, *futures_in(work))
        inputs = b"" if first else self.digest(work)
        entry = self.recorded.find(call, inputs)
        if entry is not None and not (entry.soft and first):
            future.failed = failed_key(entry)
            if not first:
                self.warn_of_other_inputs(call, entry, inputs, work.arguments)
            self.deliveries.recorded(
                future,
                entry.seq,
                lambda: self.replayed(
                    entry, lambda: self.remaking.again(entry, call, with_values(work, first), branch)
                ),
            )
            return future
        Submission(self, call, branch, work, future, first, lanes).begin()
        return future

    def execute_submitted(
        self, call: Call, work: Work, branch: Branch, future: CheckpointFuture[Any], slot: Slot
    ) -> None:  # fmt: skip
        inputs = self.digest(work)
        entry = self.recorded.find(call, inputs)
        if entry is None:
            self._execute(call, work, branch, inputs, future, slot)
            return
        if entry.soft:
            self.note_use(entry)
        future.failed = failed_key(entry)
        self.deliveries.recorded(
            future, entry.seq, lambda: self.replayed(entry, lambda: self.remaking.again(entry, call, work, branch))
        )
        self.deliveries.deliver(future)

    def prevented(self, call: Call, spec: CheckpointSpec, error: Exception, future: CheckpointFuture[Any]) -> None:
        """Record that another one's failure keeps the call from being made: its future has its place among the ends."""
        entry = self.recorded.find(call)
        if entry is None:
            self._end(Executed(not_called(call, spec, error)), future)
            return
        future.failed = failed_key(entry)
        self.deliveries.recorded(future, entry.seq, lambda: self.outcome(entry))
        self.deliveries.deliver(future)

    def _execute(
        self, call: Call, work: Work, branch: Branch, inputs: bytes, future: CheckpointFuture[Any] | None = None,
        slot: Slot | None = None,
    ) -> Executed:  # fmt: skip
        """Run the tries that are left, and record the outcome; a future resolves in its turn."""
        key = cache_key(self, work, inputs) if work.spec.cache or self.opening.cache else None
        if key is not None or self.opening.replay is not None:
            known = reusable(self, call, work, inputs, key)
            if known is not None:
                return self._end(known, future)
        while True:
            failed, _ = self.recorded.failed_tries(call.key)
            if failed:
                pause(self, call, work.spec, slot)
            attempt = self.begin_try(call, work, branch, inputs, number=failed + 1, cache_key=key)
            try:
                ended = perform(attempt, work)
            finally:
                self.parking.end()
            if branch.span is not None:
                self.check_time(branch)
            if ended.entry.kind == "c":
                return self._end(ended, future)
            self.commit([ended.entry])
            self.recorded.try_failed(call.key, attempt.number, ended.entry.ended_us)

    def _end(self, ended: Executed, future: CheckpointFuture[Any] | None) -> Executed:
        """Record an outcome, or why that cannot be; its future resolves when its turn comes."""
        try:
            return self._record(ended, future)
        except KitaruUsageError as error:
            return self._record(unrecordable(ended, error), future)

    def _record(self, ended: Executed, future: CheckpointFuture[Any] | None) -> Executed:
        if future is None:
            seq = self.commit([ended.entry])
            if self.loops.sides:
                self.loops.delivered(seq)
            return ended
        future.failed = failed_key(ended.entry)
        self.commit([ended.entry], lambda seq: self.deliveries.recorded(future, seq, lambda: self.executed(ended)))
        self.deliveries.deliver(future)
        return ended

    def begin_try(
        self, call: Call, work: Work, branch: Branch, inputs: bytes, *, number: int, cache_key: bytes | None
    ) -> Try:  # fmt: skip
        if self._halted is not None:
            raise self._halted
        if self.recorded.mistaken:
            check_new(self, call, inputs)
        self.pace.point()
        started_us = now_us()
        self.parking.begin()
        self.journal.started(call.key, call.name, number, started_us)
        parents = self.lineage.parents(work.args, work.kwargs)
        return Try(call, work.spec, branch.open_try(call, number), number, started_us, inputs, parents, cache_key)

    # Outcomes

    def digest(self, work: Work) -> bytes:
        return digest_inputs(work.arguments())

    def executed(self, ended: Executed) -> Any:
        """The outcome of a call that this attempt has recorded."""
        encoded = ended.encoded
        if encoded is None or ended.entry.flags & ARGUMENT_CHANGED:
            return self.outcome(ended.entry)
        value = codec.decode(encoded)
        self.lineage.note(value, ended.entry.key, len(encoded.data))
        return value

    def replayed(self, entry: Entry, again: Callable[[], Encoded]) -> Any:
        """The outcome of an earlier attempt, given to synchronous code.

        Args:
            again: executes the call, whose value was not kept.
        """
        self.loops.delivered(entry.seq)
        if is_unkept(entry):
            return self.remaking.checked(entry, again())
        return self.outcome(entry)

    def outcome(self, entry: Entry) -> Any:
        """The recorded value; or the recorded failure, raised."""
        if entry.flags & ARGUMENT_CHANGED:
            raise changed_argument(self.recorded, entry)
        if entry.error is not None:
            raise rebuild(entry.error)
        value = entry.value
        if value is None:
            value = self.guard(lambda: self.journal.value(entry))
        decoded = codec.decode(value) if not entry.flags & GIVEN else decode_given(value, entry.key)
        return self.noted(decoded, entry.key, len(value.data))

    def noted(self, value: Any, key: str, size: int) -> Any:
        self.lineage.note(value, key, size)
        return value

    def warn_of_other_inputs(
        self, call: Call, entry: Entry, inputs: bytes, arguments: Callable[[], Mapping[str, object]]
    ) -> None:  # fmt: skip
        """See other_arguments.check_arguments."""
        if entry.soft:
            self.note_use(entry)
        check_arguments(self, call, entry, inputs, arguments)

    def note_use(self, entry: Entry) -> None:
        """Record, once, that the flow came to a call whose outcome the replay had only kept: now it is this one's."""
        if entry.kind == "c" and entry.seq <= (self.opening.replay or {}).get("copied", 0):
            self.remark(f"{entry.key}!kept", {"used": True})

    def warn(self, key: str, message: str) -> None:
        self.remark(key, {"warning": message})

    def remark(self, key: str, said: Mapping[str, Any]) -> None:
        if self.recorded.has(key):
            return
        entry = Entry("d", key, now_us(), metadata=said)
        self.recorded.add(entry)
        self.commit([entry])

    # In the flow's body

    def note(self, branch: Branch, name: str, make: Callable[[], Any]) -> Any:
        """A plain value that is the same in every attempt."""
        if not branch.has_order:
            raise without_order(f"{name}() cannot be noted")
        call = self.place(branch, name)
        entry = self.recorded.find(call)
        if entry is not None:
            return self.outcome(entry)
        encoded = codec.encode(self.pace.noted(name, make))
        self.commit([Entry("n", call.key, now_us(), place=call.place, value=encoded)])
        return codec.decode(encoded)

    def save(self, branch: Branch, saved: Saved, *, parents: Sequence[str] = ()) -> None:
        """With the checkpoint's outcome; in the flow's body at once, and once."""
        if branch.call is not None:
            branch.left.saved.append(saved)
            branch.left.loaded.extend(parents)
            return
        call = self.place(branch, f"save:{saved.name}")
        if self.recorded.find(call) is None:
            self.commit([Entry("s", call.key, now_us(), place=call.place, saved=(saved,), parents=tuple(parents))])

    def log(self, branch: Branch, metadata: Mapping[str, Any]) -> None:
        if branch.call is not None:
            branch.left.log(metadata)
            return
        call = self.place(branch, "log")
        if self.recorded.find(call) is None:
            self.commit([Entry("l", call.key, now_us(), place=call.place, metadata=dict(metadata))])

    def record_answer(self, call: Call, answer: Answer) -> int:
        """A wait's outcome; its number in the journal."""
        said = None if answer.outcome == "answered" else {"outcome": answer.outcome}
        value = Encoded("json", answer.data)
        return self.commit([Entry("w", call.key, now_us(), place=call.place, value=value, metadata=said)])
