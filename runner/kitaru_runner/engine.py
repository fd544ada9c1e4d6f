"""Replay and checkpoints: the flow's body runs from the top against its journal.

A call whose key is in the journal gives its recorded outcome, value or failure; the first that is not there executes,
and its outcome is durable before the flow sees it. What the flow sees is always what reading the journal would give:
`decode(encode(value))`, a rebuilt exception. The same engine runs in a child and in the process of a `.run()`; only
the `Journal` below it differs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NoReturn

from kitaru_registry.clock import now_us
from kitaru_registry.errors import (
    KitaruContextError,
    KitaruDivergenceError,
    KitaruFencedError,
    KitaruStateError,
    KitaruTimeoutError,
)
from kitaru_runner import codec
from kitaru_runner.context import Branch, Call, active
from kitaru_runner.failures import ExecutionCancelled, caller_line, describe_failure, rebuild
from kitaru_runner.futures import (
    CheckpointFuture,
    Deliveries,
    Lane,
    Lanes,
    Pool,
    Slot,
    Turnstile,
    futures_in,
    with_values,
)
from kitaru_runner.isolating import Processes
from kitaru_runner.lineage import Lineage
from kitaru_runner.parking import Parking
from kitaru_runner.protocol import DIGEST_ONLY, Answer, ChildRequest, Encoded, Entry, Journal, Opening, Outcome, Saved
from kitaru_runner.recorded import Recorded, last_seq
from kitaru_runner.specs import CheckpointSpec, Work
from kitaru_runner.submitting import Submission
from kitaru_runner.trying import Executed, Try, cached_entry, digest_of, perform, perform_again

POOL_THREADS = 128

HELD_PAUSE_SECONDS = 5.0
"""A pause between tries that is longer is a durable timer, and lets the execution park."""


class Engine:
    """One attempt at an execution."""

    def __init__(self, journal: Journal, opening: Opening, *, fenced: Callable[[], NoReturn] | None = None) -> None:
        """
        Args:
            fenced: what to do when another attempt owns the execution: a child ends at once. By default the error
                is raised, from this call and every later one.
        """
        self.exec_id = opening.exec_id
        self.opening = opening
        self.journal = journal
        self.recorded = Recorded(opening)
        self.lineage = Lineage()
        self.parking = Parking(self)
        self.deliveries = Deliveries(self.parking)
        self.lanes = Lanes()
        self.pool = Pool(POOL_THREADS)
        self.isolated = Processes()
        self._fenced = fenced
        self._turnstile = Turnstile(last_seq(opening.entries))
        self._halted: BaseException | None = None
        self._tasks: set[Any] = set()
        # Made at need by engine_async: importing asyncio costs more than all of this.
        self.loop_side: Any = None

    def enter(self, *, caller_is_plain: bool) -> None:
        active.enter(caller_is_plain=caller_is_plain)

    def leave(self) -> None:
        """The body has ended: threads that it left, at pauses or in processes, end too."""
        if self._halted is None:
            self._halted = KitaruContextError("this call was left behind by its flow, which has ended")
        self.isolated.end()
        self.parking.wake()
        active.leave()

    # Calls: keys, divergence

    def place(self, branch: Branch, name: str, id_: str | None = None) -> Call:
        """The call's key in its branch, after checking that the journal agrees.

        Raises:
            KitaruDivergenceError: the journal holds another call at this place; the execution has failed.
        """
        self.check_halted()
        if branch.span is not None:
            self.check_time(branch)
        call = branch.next_call(name, id_)
        expected = self.recorded.expected_at(call)
        if expected is not None and expected.key != call.key:
            self.diverge(call, expected)
        return call

    def diverge(self, call: Call, expected: Entry) -> NoReturn:
        where = f" in {call.scope.rstrip('/')}" if call.scope else ""
        error = KitaruDivergenceError(
            f"call {call.place + 1}{where} is {call.key}, but the journal holds {expected.key} there",
            hint="a flow's body must make the same calls in the same order: move clocks, randomness and I/O into "
            f"checkpoints; or go on with this call: kitaru executions resume {self.exec_id} --accept {call.key}",
            exec_id=self.exec_id,
            status="failed",
            failure_origin="divergence",
        )
        try:
            raise error
        except KitaruDivergenceError:
            described = describe_failure(error, origin="divergence", checkpoint=call.key)
        described.update(caller_line(), scope=call.scope, place=call.place)
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

    def halt(self, error: BaseException) -> None:
        """Let every later call, and everyone who stands at a wait, raise this."""
        self._halted = error
        self.isolated.end()
        self.parking.wake()
        if self.loop_side is not None:
            self.loop_side.halted(error)

    # Writing

    def commit(self, entries: Sequence[Entry], act: Callable[[int], None] | None = None) -> int:
        """Make entries durable; then, in the order of the journal, act on the last one's number, which is returned."""
        last: int = self.guard(lambda: self.journal.record(entries))
        self._turnstile.pass_through(last - len(entries) + 1, last, act)
        return last

    def guard(self, write: Callable[[], Any]) -> Any:
        try:
            return write()
        except KitaruFencedError as error:
            if self._fenced is not None:
                self._fenced()
            self._halted = error
            raise

    def park(self) -> None:
        self.guard(self.journal.park)

    def finish(self, value: Encoded | None, error: dict[str, Any] | None) -> bool:
        """End the execution; whether it begins anew."""
        if self._halted is not None:
            return False
        return bool(self.guard(lambda: self.journal.finish(Outcome(value, error))))

    # Checkpoints

    def checkpoint(self, branch: Branch, work: Work, *, id_: str | None = None) -> Any:
        """The outcome of a synchronous call: recorded, or executed and recorded."""
        call = self.place(branch, work.spec.name, id_)
        inputs = self.digest(work)
        entry = self.recorded.find(call, inputs)
        if entry is None:
            return self.executed(self._execute(call, work, branch, inputs))
        self.warn_of_other_inputs(call, entry, inputs)
        return self.replayed(entry, lambda: perform_again(branch, call, entry, work))

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
            if not first:
                self.warn_of_other_inputs(call, entry, inputs)
            self.deliveries.recorded(
                future,
                entry.seq,
                lambda: self.replayed(entry, lambda: perform_again(branch, call, entry, with_values(work, first))),
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
        again = lambda: perform_again(branch, call, entry, work)  # noqa: E731
        self.deliveries.recorded(future, entry.seq, lambda: self.replayed(entry, again))
        self.deliveries.deliver(future)

    def _execute(
        self, call: Call, work: Work, branch: Branch, inputs: bytes, future: CheckpointFuture[Any] | None = None,
        slot: Slot | None = None,
    ) -> Executed:  # fmt: skip
        """Run the tries that are left, and record the outcome; a future resolves in its turn."""
        known = self.reusable(call, work, inputs)
        if known is not None:
            return self._end(known, future)
        while True:
            self.pause(call, work.spec, slot)
            attempt = self.begin_try(call, work, branch, inputs)
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
        """Record an outcome, and let its future resolve when its turn comes."""
        if future is None:
            self.commit([ended.entry])
            return ended
        self.commit([ended.entry], lambda seq: self.deliveries.recorded(future, seq, lambda: self.executed(ended)))
        self.deliveries.deliver(future)
        return ended

    def begin_try(self, call: Call, work: Work, branch: Branch, inputs: bytes) -> Try:
        self.check_halted()
        number = self.recorded.failed_tries(call.key)[0] + 1
        started_us = now_us()
        self.parking.begin()
        self.journal.started(call.key, call.name, number, started_us)
        return Try(
            call, work.spec, branch.open_try(call, number), number, started_us, inputs,
            parents=self.lineage.parents(work.args, work.kwargs), cache_key=self.cache_key(work, inputs),
        )  # fmt: skip

    def pause_us(self, call: Call, spec: CheckpointSpec) -> int:
        """Microseconds that are left of the pause after the last failed try."""
        failed, ended_us = self.recorded.failed_tries(call.key)
        if not failed:
            return 0
        return max(0, ended_us + spec.backoff.pause_us(failed, salt=call.key) - now_us())

    def pause(self, call: Call, spec: CheckpointSpec, slot: Slot | None = None) -> None:
        """Let the pause after a failed try pass. Another call may have its room meanwhile."""
        left = self.pause_us(call, spec)
        if left <= 0:
            return
        from kitaru_runner.waiting import pause_before_try

        if slot is not None:
            slot.leave()
        pause_before_try(self, call, left)
        if slot is not None:
            slot.enter_again()

    # What a replay, a cache and a guard say

    def reusable(self, call: Call, work: Work, inputs: bytes) -> Executed | None:
        """The outcome of another execution's same call, under `cache=True`; None: execute it.

        Raises:
            ExecutionCancelled: only what is recorded may be used; the execution has ended here.
            KitaruStateError: `replay="never"`, in a replay that has no outcome of it.
        """
        replay = self.opening.replay
        if replay is not None:
            self._permit(call, work.spec, replay)
        key = self.cache_key(work, inputs)
        if key is None:
            return None
        found = self.guard(lambda: self.journal.cached(key))
        if found is None:
            return None
        return cached_entry(call, work.spec, inputs, *found)

    def _permit(self, call: Call, spec: CheckpointSpec, replay: Any) -> None:
        if replay.get("only_recorded"):
            self.guard(lambda: self.journal.stop(call.key))
            self.halt(ExecutionCancelled())
            self.check_halted()
        if spec.replay == "never":
            raise KitaruStateError(
                f'checkpoint {call.key} is guarded by replay="never", and execution {replay.get("of")} has no outcome '
                "of it",
                hint=f"give one: --overrides '{{\"checkpoint.{call.key}\": ...}}'",
            )

    def cache_key(self, work: Work, inputs: bytes) -> bytes | None:
        wanted = work.spec.cache
        # A guard is not opened by what the whole flow says: its effect would not happen.
        if self.opening.cache is not None and work.spec.replay != "never":
            wanted = self.opening.cache
        if not wanted or not self.opening.code or codec.is_opaque(inputs):
            return None
        said = f"{self.opening.code}\0{as_deployed(work.spec.identity)}\0".encode()
        return blake2b(said + inputs, digest_size=16).digest()

    # Outcomes

    def digest(self, work: Work) -> bytes:
        return codec.digest_inputs(work.spec.bind(*work.args, **work.kwargs))

    def executed(self, ended: Executed) -> Any:
        """The outcome of a call that this attempt has recorded."""
        if ended.encoded is None:
            return self.outcome(ended.entry)
        return self._noted(codec.decode(ended.encoded), ended.entry.key, len(ended.encoded.data))

    def replayed(self, entry: Entry, again: Callable[[], Any]) -> Any:
        """The outcome of an earlier attempt, given to synchronous code.

        Args:
            again: executes the call, whose value was not kept.
        """
        if self.loop_side is not None:
            self.loop_side.delivered(entry.seq)
        if entry.flags & DIGEST_ONLY and entry.error is None:
            return self.check_digest(entry, again())
        return self.outcome(entry)

    def outcome(self, entry: Entry) -> Any:
        """The recorded value; or the recorded failure, raised."""
        if entry.error is not None:
            raise rebuild(entry.error)
        value = entry.value
        if value is None:
            value = self.guard(lambda: self.journal.value(entry))
        return self._noted(codec.decode(value), entry.key, len(value.data))

    def _noted(self, value: Any, key: str, size: int) -> Any:
        self.lineage.note(value, key, size)
        return value

    def check_digest(self, entry: Entry, value: object) -> Any:
        """The value of a call under `record="digest"`, executed again; a warning where it is another one now."""
        encoded = codec.encode(value)
        if entry.value is not None and digest_of(encoded).data != entry.value.data:
            self.warn(f"{entry.key}!value", f"{entry.key} gave another value than the one whose digest is recorded")
        return codec.decode(encoded)

    def warn_of_other_inputs(self, call: Call, entry: Entry, inputs: bytes) -> None:
        """Record, once, that a recorded call was made with other arguments."""
        if entry.inputs is not None and not codec.same_inputs(entry.inputs, inputs):
            message = f"{call.key} was recorded with other arguments than it is called with now"
            self.warn(f"{call.key}!inputs", message)

    def warn(self, key: str, message: str) -> None:
        if self.recorded.has(key):
            return
        warning = Entry("d", key, now_us(), metadata={"warning": message})
        self.recorded.add(warning)
        self.commit([warning])

    # In the flow's body

    def note(self, branch: Branch, name: str, make: Callable[[], Any]) -> Any:
        """A plain value that is the same in every attempt."""
        call = self.place(branch, name)
        entry = self.recorded.find(call)
        if entry is not None:
            return self.outcome(entry)
        encoded = codec.encode(make())
        self.commit([Entry("n", call.key, now_us(), place=call.place, value=encoded)])
        return codec.decode(encoded)

    def save(self, branch: Branch, saved: Saved) -> None:
        """With the checkpoint's outcome; in the flow's body at once, and once."""
        if branch.call is not None:
            branch.saved.append(saved)
            return
        call = self.place(branch, f"save:{saved.name}")
        if self.recorded.find(call) is None:
            self.commit([Entry("s", call.key, now_us(), place=call.place, saved=(saved,))])

    def log(self, branch: Branch, metadata: Mapping[str, Any]) -> None:
        if branch.call is not None:
            branch.metadata.update(metadata)
            return
        call = self.place(branch, "log")
        if self.recorded.find(call) is None:
            self.commit([Entry("l", call.key, now_us(), place=call.place, metadata=dict(metadata))])

    def child(self, branch: Branch, request: Callable[[Call], ChildRequest], *, flow: str) -> str:
        """The id of a child execution: the one that is recorded, or a new one."""
        if branch.call is not None:
            raise KitaruContextError(
                f"flow {flow} was started inside checkpoint {branch.call.key}",
                hint="start it in the flow's body: a checkpoint executes again when it is cut short",
            )
        call = self.place(branch, flow)
        entry = self.recorded.find(call)
        if entry is not None:
            exec_id = str(self.outcome(entry))
            self.guard(lambda: self.journal.attend(exec_id))
            return exec_id
        made: tuple[str, int] = self.guard(lambda: self.journal.child(request(call)))
        self._turnstile.pass_through(made[1], made[1])
        return made[0]

    def load(self, exec_id: str, name: str, index: int | None = None) -> Any:
        value = self.guard(lambda: self.journal.load(exec_id, name, index))
        return self._noted(codec.decode(value), f"{exec_id}:{name}", len(value.data))

    def record_answer(self, call: Call, answer: Answer) -> None:
        """A wait's outcome."""
        said = None if answer.outcome == "answered" else {"outcome": answer.outcome}
        value = Encoded("json", answer.data)
        self.commit([Entry("w", call.key, now_us(), place=call.place, value=value, metadata=said)])


def as_deployed(identity: str) -> str:
    """A function's module and name; those of a script as they are when it is deployed."""
    module, _, name = identity.partition(":")
    if module == "__main__":
        module = getattr(sys.modules["__main__"], "__kitaru_name__", module)
    return f"{module}:{name}"


def answer_of(entry: Entry) -> Answer:
    """What a recorded wait was given."""
    data = entry.value.data if entry.value is not None else json.dumps(None).encode()
    return Answer(data, str((entry.metadata or {}).get("outcome", "answered")))
