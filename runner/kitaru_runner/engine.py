"""Replay and checkpoints: the flow's body runs from the top against its journal.

A call whose key is in the journal gives its recorded outcome, value or failure; the first that is not there executes,
and its outcome is durable before the flow sees it. What the flow sees is always what reading the journal would give:
`decode(encode(value))`, a rebuilt exception. The same engine runs in a child and in the process of a `.run()`; only
the `Journal` below it differs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, NoReturn

from kitaru_registry.errors import KitaruContextError, KitaruDivergenceError, KitaruFencedError
from kitaru_runner import codec
from kitaru_runner.context import Branch, Call, active, current
from kitaru_runner.failures import describe_failure, rebuild
from kitaru_runner.futures import CheckpointFuture, Deliveries, Pool, Turnstile
from kitaru_runner.protocol import Encoded, Entry, Journal, Opening, Outcome, Saved, WaitRequest

POOL_THREADS = 128

Failure = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CheckpointSpec:
    """What `@checkpoint(...)` says."""

    name: str
    retries: int
    type: str | None
    bind: Callable[..., Mapping[str, object]]
    """Arguments by name, for their digest."""


def now_us() -> int:
    return time.time_ns() // 1000


class Engine:
    """One attempt at an execution."""

    def __init__(self, journal: Journal, opening: Opening, *, fenced: Callable[[], NoReturn] | None = None) -> None:
        """
        Args:
            fenced: what to do when another attempt owns the execution: a child ends at once. By default the error
                is raised, from this call and every later one.
        """
        self.exec_id = opening.exec_id
        self._journal = journal
        self._fenced = fenced
        self._recorded = {entry.key: entry for entry in opening.entries if entry.kind in "cwsld"}
        self._failed_tries: dict[str, int] = {}
        for entry in opening.entries:
            if entry.kind == "t":
                self._failed_tries[entry.key] = max(entry.tries or 1, self._failed_tries.get(entry.key, 0))
        self._places = {
            (scope_of(entry.key), entry.place): entry for entry in opening.entries if entry.place is not None
        }
        self.deliveries = Deliveries()
        self._turnstile = Turnstile(opening.entries[-1].seq if opening.entries else 0)
        self._pool = Pool(POOL_THREADS)
        self.parking = Parking(journal, self)
        self._halted: BaseException | None = None
        self._tasks: set[Any] = set()
        # Made at need by engine_async: importing asyncio costs more than all of this.
        self.loop_side: Any = None

    def enter(self, *, caller_is_plain: bool) -> None:
        active.enter(caller_is_plain=caller_is_plain)

    def leave(self) -> None:
        active.leave()

    # Calls: keys, divergence

    def place(self, branch: Branch, name: str, id_: str | None = None) -> Call:
        """The call's key in its branch, after checking that the journal agrees.

        Raises:
            KitaruDivergenceError: the journal holds another call at this place; the execution has failed.
        """
        self.check_halted()
        call = branch.next_call(name, id_)
        expected = self._places.get((call.scope, call.place))
        if expected is not None and expected.key != call.key:
            self.diverge(call, expected)
        return call

    def diverge(self, call: Call, expected: Entry) -> NoReturn:
        where = f" in {call.scope.rstrip('/')}" if call.scope else ""
        error = KitaruDivergenceError(
            f"call {call.place + 1}{where} is {call.key}, but the journal holds {expected.key} there",
            hint="a flow's body must make the same calls in the same order: move clocks, randomness and I/O into "
            "checkpoints",
            exec_id=self.exec_id,
            status="failed",
            failure_origin="divergence",
        )
        try:
            raise error
        except KitaruDivergenceError:
            described = describe_failure(error, origin="divergence", checkpoint=call.key)
        described.update(caller_line())
        self._halted = error
        self._guard(lambda: self._journal.finish(Outcome(None, described)))
        raise error

    def recorded(self, call: Call) -> Entry | None:
        return self._recorded.get(call.key)

    def replay_order(self) -> list[int]:
        """The numbers of the outcomes that a replay hands out: not those within a checkpoint that is recorded."""
        return [
            entry.seq
            for key, entry in self._recorded.items()
            if entry.kind in "cw" and not ("/try" in key and key.partition("/try")[0] in self._recorded)
        ]

    def try_failed(self, call: Call, number: int) -> None:
        self._failed_tries[call.key] = number

    def keep(self, task: Any) -> None:
        """Hold a task of the flow's loop, which itself holds only weak references."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def check_halted(self) -> None:
        if self._halted is not None:
            raise self._halted

    @property
    def is_halted(self) -> bool:
        return self._halted is not None

    def halt(self, error: BaseException) -> None:
        """Let every later call, and everyone who stands at a wait, raise this."""
        self._halted = error
        self.parking.wake()
        if self.loop_side is not None:
            self.loop_side.halted(error)

    # Writing

    def commit(self, entries: Sequence[Entry], act: Callable[[int], None] | None = None) -> int:
        """Make entries durable; then, in the order of the journal, act on the last one's number, which is returned."""
        last: int = self._guard(lambda: self._journal.record(entries))
        self._turnstile.pass_through(last - len(entries) + 1, last, act)
        return last

    def _guard(self, write: Callable[[], Any]) -> Any:
        try:
            return write()
        except KitaruFencedError as error:
            if self._fenced is not None:
                self._fenced()
            self._halted = error
            raise

    # Checkpoints

    def checkpoint(
        self, branch: Branch, spec: CheckpointSpec, function: Callable[..., Any], args: Sequence[Any],
        kwargs: Mapping[str, Any], *, id_: str | None = None,
    ) -> Any:  # fmt: skip
        """The outcome of a synchronous call: recorded, or executed and recorded."""
        call = self.place(branch, spec.name, id_)
        inputs = codec.digest_inputs(spec.bind(*args, **kwargs))
        entry = self.recorded(call)
        if entry is None:
            return self.outcome(self._execute(call, spec, function, args, kwargs, branch, inputs))
        self.warn_of_other_inputs(call, entry, inputs)
        return self.replayed(entry)

    def submit(
        self, branch: Branch, spec: CheckpointSpec, function: Callable[..., Any], args: Sequence[Any],
        kwargs: Mapping[str, Any], *, id_: str | None = None,
    ) -> CheckpointFuture[Any]:  # fmt: skip
        """A future of the call's outcome; `branch` is the scope that was opened for it."""
        call = self.place(branch, spec.name, id_)
        inputs = codec.digest_inputs(spec.bind(*args, **kwargs))
        entry = self.recorded(call)
        future: CheckpointFuture[Any] = CheckpointFuture(self.deliveries, key=call.key)
        if entry is not None:
            self.warn_of_other_inputs(call, entry, inputs)
            self.deliveries.recorded(future, entry.seq, lambda: self.replayed(entry))
            return future
        context = copy_context()
        context.run(current.set, branch)
        self.parking.begin()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return self.parking.end()
            try:
                context.run(self._execute, call, spec, function, args, kwargs, branch, inputs, future)
            except BaseException as error:  # the record could not be written: whoever asks must hear of it
                future.set_exception(error)
            finally:
                self.parking.end()

        self._pool.submit(work)
        return future

    def _execute(
        self, call: Call, spec: CheckpointSpec, function: Callable[..., Any], args: Sequence[Any],
        kwargs: Mapping[str, Any], branch: Branch, inputs: bytes, future: CheckpointFuture[Any] | None = None,
    ) -> Entry:  # fmt: skip
        """Run the tries that are left, and record the outcome; a future resolves in its turn."""
        while True:
            attempt = self.begin_try(call, spec, branch, inputs)
            token = current.set(attempt.branch)
            try:
                value = function(*args, **kwargs)
            except Exception as error:
                entry = attempt.failed(error)
            else:
                entry = attempt.returned(value)
            finally:
                current.reset(token)
                self.parking.end()
            if entry.kind == "c":
                self._end(entry, future)
                return entry
            self.commit([entry])
            self.try_failed(call, attempt.number)

    def _end(self, entry: Entry, future: CheckpointFuture[Any] | None) -> None:
        """Record an outcome, and let its future resolve when its turn comes."""
        if future is None:
            self.commit([entry])
            return
        self.commit([entry], lambda seq: self.deliveries.recorded(future, seq, lambda: self.outcome(entry)))
        self.deliveries.deliver(future)

    def begin_try(self, call: Call, spec: CheckpointSpec, branch: Branch, inputs: bytes) -> Try:
        self.check_halted()
        number = self._failed_tries.get(call.key, 0) + 1
        started_us = now_us()
        self.parking.begin()
        self._journal.started(call.key, call.name, number, started_us)
        return Try(call, spec, branch.open_try(call, number), number, started_us, inputs)

    def replayed(self, entry: Entry) -> Any:
        """The outcome of an earlier attempt, given to synchronous code."""
        if self.loop_side is not None:
            self.loop_side.delivered(entry.seq)
        return self.outcome(entry)

    def outcome(self, entry: Entry) -> Any:
        """The recorded value; or the recorded failure, raised."""
        if entry.error is not None:
            raise rebuild(entry.error)
        value = entry.value
        if value is None:
            value = self._guard(lambda: self._journal.value(entry))
        return codec.decode(value)

    def warn_of_other_inputs(self, call: Call, entry: Entry, inputs: bytes) -> None:
        """Record, once, that a recorded call was made with other arguments."""
        key = f"{call.key}!inputs"
        if entry.inputs is None or entry.inputs == inputs or key in self._recorded:
            return
        message = f"{call.key} was recorded with other arguments than it is called with now"
        warning = Entry("d", key, now_us(), metadata={"warning": message})
        self._recorded[key] = warning
        self.commit([warning])

    # In the flow's body

    def save(self, branch: Branch, saved: Saved) -> None:
        """With the checkpoint's outcome; in the flow's body at once, and once."""
        if branch.call is not None:
            branch.saved.append(saved)
            return
        call = self.place(branch, f"save:{saved.name}")
        if self.recorded(call) is None:
            self.commit([Entry("s", call.key, now_us(), place=call.place, saved=(saved,))])

    def log(self, branch: Branch, metadata: Mapping[str, Any]) -> None:
        if branch.call is not None:
            branch.metadata.update(metadata)
            return
        call = self.place(branch, "log")
        if self.recorded(call) is None:
            self.commit([Entry("l", call.key, now_us(), place=call.place, metadata=dict(metadata))])

    def load(self, exec_id: str, name: str) -> Any:
        return codec.decode(self._guard(lambda: self._journal.load(exec_id, name)))

    def open_wait(
        self, branch: Branch, *, name: str, question: str | None, schema: Mapping[str, Any] | None,
        metadata: Mapping[str, Any] | None,
    ) -> tuple[Call, bytes | None]:  # fmt: skip
        """The call's place, and the answer's JSON where it is recorded or there already."""
        if branch.call is not None:
            raise KitaruContextError(
                f"wait() was called inside checkpoint {branch.call.key}",
                hint="call wait() in the flow's body: a checkpoint executes again when it is cut short",
            )
        call = self.place(branch, name)
        entry = self.recorded(call)
        if entry is not None and entry.value is not None:
            return call, entry.value.data
        request = WaitRequest(call.key, name, question, schema, metadata, now_us())
        answer = self._guard(lambda: self._journal.open_wait(request))
        if answer is not None:
            self.record_answer(call, answer)
        return call, answer

    def record_answer(self, call: Call, answer: bytes) -> None:
        self.commit([Entry("w", call.key, now_us(), place=call.place, value=Encoded("json", answer))])

    def wait(self, branch: Branch, **request: Any) -> bytes:
        """The answer's JSON. The branch stands still until it is there."""
        call, answer = self.open_wait(branch, **request)
        if answer is None:
            answer = self.parking.stand_at(call.key)
            self.check_halted()
            self.record_answer(call, answer)
        return answer

    def finish(self, value: Encoded | None, error: Failure | None) -> None:
        if self._halted is None:
            self._guard(lambda: self._journal.finish(Outcome(value, error)))


@dataclass(frozen=True, slots=True)
class Try:
    """One try of a checkpoint, and what becomes its journal entry."""

    call: Call
    spec: CheckpointSpec
    branch: Branch
    number: int
    started_us: int
    inputs: bytes

    def returned(self, value: object) -> Entry:
        try:
            return self._entry("c", codec.encode(value), None)
        except Exception as error:  # no codec carries it: the checkpoint did not succeed
            return self._entry("c", None, describe_failure(error, checkpoint=self.call.key))

    def failed(self, error: BaseException) -> Entry:
        last = self.number > self.spec.retries
        return self._entry("c" if last else "t", None, describe_failure(error, checkpoint=self.call.key))

    def cancelled(self, error: BaseException) -> Entry:
        """Its caller gave up: an outcome too."""
        return self._entry("c", None, describe_failure(error, checkpoint=self.call.key))

    def _entry(self, kind: str, value: Encoded | None, error: Failure | None) -> Entry:
        call, branch = self.call, self.branch
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
        )


class Parking:
    """Counts what is in flight, and lets the execution park when all that is left are waits."""

    def __init__(self, journal: Journal, engine: Engine) -> None:
        self._journal = journal
        self._engine = engine
        self._condition = threading.Condition()
        self._in_flight = 0
        self._standing: set[str] = set()
        self._answers: dict[str, bytes] = {}
        self.activity = 0

    def begin(self) -> None:
        with self._condition:
            self._in_flight += 1
            self.activity += 1

    def end(self) -> None:
        with self._condition:
            self._in_flight -= 1
            self.activity += 1
            if self._standing and not self._in_flight:
                self._condition.notify_all()

    @property
    def idle(self) -> bool:
        return self._in_flight == 0

    def answered(self, key: str, answer: bytes) -> None:
        """An answer has come (see protocol.Answers)."""
        with self._condition:
            self._answers[key] = answer
            self._condition.notify_all()
        side = self._engine.loop_side
        if side is not None:
            side.answered(key, answer)

    def wake(self) -> None:
        """Let whoever stands look again: the engine was halted."""
        with self._condition:
            self._condition.notify_all()

    def stand_at(self, key: str) -> bytes:
        """Block this thread until the answer is there; park whenever nothing else is in flight."""
        parked = False
        with self._condition:
            self._standing.add(key)
        try:
            while True:
                with self._condition:
                    while key not in self._answers and (self._in_flight or parked):
                        self._engine.check_halted()
                        self._condition.wait()
                    if key in self._answers:
                        return self._answers.pop(key)
                    self._engine.check_halted()
                    parked = True
                # Not under the condition: the answer that park() waits for may come by another thread.
                self.park()
        finally:
            with self._condition:
                self._standing.discard(key)

    def take(self, key: str) -> bytes | None:
        """The answer, if it has come and nobody took it."""
        with self._condition:
            return self._answers.pop(key, None)

    def park(self) -> None:
        self._engine._guard(self._journal.park)


def scope_of(key: str) -> str:
    head, slash, _ = key.rpartition("/")
    return head + slash


def name_in(key: str) -> str:
    return key.rpartition("/")[2].partition("#")[0]


def caller_line() -> dict[str, Any]:
    """File and line of the innermost frame that is not Kitaru's own."""
    import sys

    frame = sys._getframe(1)
    while frame.f_back is not None:
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] not in ("kitaru", "kitaru_runner"):
            return {"file": frame.f_code.co_filename, "line": frame.f_lineno}
        frame = frame.f_back
    return {}
