"""Executions in this process: `.run()`, `kitaru run`, and their resumption. The process is its own runner."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from kitaru.client import KitaruClient
from kitaru.handle import FlowHandle
from kitaru.inputs import encode_inputs
from kitaru.source_children import SourceChildren, source_execution
from kitaru.sources import require_resumable, source_for
from kitaru.staying import REFUSES_THREADS, stay_until
from kitaru_registry.clock import clock, now_us
from kitaru_registry.errors import (
    KitaruBackendError,
    KitaruConflictError,
    KitaruFencedError,
    KitaruUsageError,
)
from kitaru_registry.executions import creating, ending, queue, reading, waits
from kitaru_registry.executions.attempt_journal import RegistryJournal
from kitaru_registry.executions.inputs import load as load_inputs
from kitaru_registry.home import Home, place_of
from kitaru_registry.journal.entries import Encoded
from kitaru_registry.journal.log_lines import log_file
from kitaru_registry.models import Execution, ExecutionId, Source
from kitaru_runner.child.loader import find_flow, load_module, split_target
from kitaru_runner.engine.body import output as logs
from kitaru_runner.engine.body.body import run_body
from kitaru_runner.engine.core.attempt import Attempt
from kitaru_runner.engine.core.forking import drop_in_forks, flush
from kitaru_runner.host.locks import FileLock, execution_lock, owner_of
from kitaru_runner.values import codec
from kitaru_runner.values.failures import ExecutionCancelled, describe_failure
from kitaru_runner.values.pickles import refuse_pickle

if TYPE_CHECKING:
    from kitaru.definition import FlowDefinition
    from kitaru.flow_options import FlowOptions
    from kitaru.replaying import Request
    from kitaru.session import Session

BEAT_SECONDS = 1.0
CANCEL_SECONDS = 1.0
"""What a cancelled flow has to end: then its execution has, whatever its thread does."""

ANSWER_POLL_SECONDS = 0.1
CTRL_C = "stopped by Ctrl-C"

_lock = threading.Lock()


def run_here(
    flow: FlowDefinition, inputs: Mapping[str, Any], *, session: Session | None = None,
    options: FlowOptions | None = None,
) -> FlowHandle:  # fmt: skip
    """Start an execution of the flow in a thread of this process."""
    session = session or KitaruClient(cwd=flow.file.parent if flow.file else None)
    new = new_source_execution(session, flow, inputs, options=options)
    creating.create(session.database, new)
    return start(session, flow, new.exec_id)


def new_source_execution(
    session: Session, flow: FlowDefinition, inputs: Mapping[str, Any], *, options: FlowOptions | None = None,
    replay: Mapping[str, Any] | None = None, idempotency_key: str | None = None,
) -> creating.NewExecution:  # fmt: skip
    """What an execution of this flow in this process is made of."""
    encoded = encode_inputs(flow.name, inputs)
    if session.config.values.pickle == "forbid":
        refuse_pickle(encoded, f"the inputs of {flow.name}")
    new = source_execution(
        session, flow=flow.name, inputs=encoded, source=source_for(session, flow),
        options=(options or flow.options).said,
    )  # fmt: skip
    return replace(new, replay=replay, idempotency_key=idempotency_key)


def replay_here(session: Session, flow: FlowDefinition, exec_id: str, request: Request) -> FlowHandle:
    """Make the replay as a source execution of this flow, and execute it in this process."""
    from kitaru.replaying import create, find_original, here, inputs_here, prepare_for

    original = find_original(session, exec_id)
    if original.row.flow != flow.name:
        raise KitaruConflictError(
            f"execution {original.row.exec_id} is one of {original.row.flow}, and this is the flow {flow.name}",
            hint=f"kitaru executions list --flow {flow.name}",
        )
    inputs = inputs_here(flow, original, request)
    prepared = prepare_for(session, original, here(), request, codec.encode(inputs))
    new = new_source_execution(session, flow, inputs, replay=prepared.said, idempotency_key=request.idempotency_key)
    made, created = create(session, prepared, new)
    return start(session, flow, made) if created else FlowHandle(session, made, flow.name, created=False)


def new_inputs(flow: FlowDefinition, given: Mapping[str, Any]) -> dict[str, Any]:
    """JSON inputs that are given over recorded ones, as the flow takes them.

    Raises:
        KitaruUsageError: they do not fit.
    """
    from kitaru_registry.schemas import check_inputs
    from kitaru_runner.values.signatures import convert_inputs, input_schema

    check_inputs({**input_schema(flow.function), "required": []}, given, flow=flow.name)
    return convert_inputs(flow.function, given)


def resume_here(session: Session, execution: Execution) -> FlowHandle:
    """Go on with a source execution in this process, on the files that it began with."""
    source = require_resumable(session, execution, with_edits=True)
    file = Path(source.folder) / source.file
    flow = find_flow(load_module(Path(source.folder), file), split_target(source.entrypoint)[1], file=source.file)
    return start(session, flow, execution.exec_id)


def start(
    session: Session, flow: FlowDefinition, exec_id: ExecutionId, *, parent: ExecutionId | None = None
) -> FlowHandle:
    """Claim the execution for this process, and run it in a thread.

    Args:
        parent: the execution of this process that started it.

    Raises:
        KitaruConflictError: another process executes it.
    """
    lock = FileLock.acquire(execution_lock(session.home, exec_id))
    if lock is None:
        raise still_running(session.home, exec_id)
    lock.write(str(os.getpid()))
    owner = queue.Owner(f"source:{os.getpid()}", os.getpid(), place_of(session.home))
    claim = queue.claim(session.database, queue.candidate(session.database, exec_id), owner)
    if claim is None:
        lock.release()
        raise KitaruConflictError(
            f"execution {exec_id} was taken or ended meanwhile", hint=f"kitaru executions get {exec_id}"
        )
    drop_in_forks("executions", leave_to_parent)
    run = LocalRun(session, flow, claim, owner, lock)
    run.parent = parent
    with _lock:
        runs[exec_id] = run
    end_on_ctrl_c()
    stay_for_flows()
    run.thread = threading.Thread(target=run.run, name=f"kitaru-{flow.name}")
    run.thread.start()
    threading.Thread(target=run.keep_alive, name="kitaru-heartbeat", daemon=True).start()
    return FlowHandle(session, exec_id, flow.name)


def still_running(home: Home, exec_id: str) -> KitaruConflictError:
    return KitaruConflictError(
        f"execution {exec_id} is still running as {owner_of(execution_lock(home, exec_id))}",
        hint=f"kitaru executions get {exec_id}",
    )


class LocalRun:
    """One execution in this process: a thread for the flow, one for the heartbeat."""

    def __init__(
        self, session: Session, flow: FlowDefinition, claim: queue.Claim, owner: queue.Owner, lock: FileLock
    ) -> None:
        self.session = session
        self._flow = flow
        self._owner = owner
        self._lock = lock
        self._exec_id = claim.exec_id
        self._inputs = codec.decode(Encoded(claim.inputs_codec, load_inputs(session.database, claim)))
        self._json_inputs = (claim.replay or {}).get("json_inputs", ())
        self._ended = threading.Event()
        self._wake = threading.Event()
        self.thread: threading.Thread | None = None
        self.over = threading.Event()
        """It is no execution of this process any more."""
        self.parent: ExecutionId | None = None
        self.again = False
        """Its parent, which was retried, wants it to go on; it may be about to end."""
        self._cut_at: float | None = None
        # What is learnt by an attempt's journal is said to that attempt's engine.
        self._turn = threading.RLock()
        self._begin(claim)

    def _begin(self, claim: queue.Claim) -> None:
        """An attempt: its journal, an engine over it, and what it prints."""
        logs.begin(log_file(self.session.home, claim.exec_id), claim.exec_id, claim.attempt)
        source = claim_source(self.session, claim)
        journal = RegistryJournal(
            self.session.database, self.session.writer, claim, stays=True, code=source.digest if source else "",
            children=SourceChildren(self.session, self._exec_id, Here()),
        )  # fmt: skip
        journal.may_pickle = self.session.config.values.pickle != "forbid"
        journal.strict = self.session.config.journal.divergence == "strict"
        attempt = Attempt(journal, journal.open(entrypoint=""))
        journal.listener = attempt.parking
        with self._turn:
            self._journal, self._attempt = journal, attempt
            if self._cut_at is not None:
                attempt.cancel()

    def run(self) -> None:
        """Execute until this process is done with it."""
        try:
            self._execute()
        finally:
            with _lock:
                if runs.get(self._exec_id) is self:
                    del runs[self._exec_id]
            self.over.set()

    def _execute(self) -> None:
        clock.listeners.append(self._wake.set)
        try:
            if self._types_fit():
                while run_body(self._attempt, self._flow.function, self._inputs) and self._begin_anew():
                    pass
        except (ExecutionCancelled, KitaruFencedError, KitaruBackendError):
            pass
        finally:
            if self._attempt.is_cancelled:
                self._end_cancelled()
            self._settle_unwritten()
            self._ended.set()
            logs.end(self._exec_id)
            self._wake.set()
            clock.listeners.remove(self._wake.set)
            self._lock.release()
            with _lock:
                runs.pop(self._exec_id, None)
                again = self.again
            if again and reading.get_status(self.session.database, self._exec_id) == "pending":
                start(self.session, self._flow, self._exec_id, parent=self.parent)
            if self.parent is not None:
                poke(self.parent)

    def _end_cancelled(self) -> None:
        ending.cancel_owned(self.session.database, self._journal.row, self._journal.attempt)

    def _settle_unwritten(self) -> None:
        """After a write that failed: the attempt has ended, and the execution says why and how to go on."""
        error = self._attempt.could_not_write
        if error is None:
            return
        try:
            self.leave(error.message)
        except KitaruBackendError:
            # It stays `running` with nobody who holds its lock, and is seen to be so.
            print(f"kitaru: {error.message}", file=sys.stderr)

    def _types_fit(self) -> bool:
        """Give JSON inputs of a replay the types of the flow's parameters. False: the execution has failed."""
        if not self._json_inputs:
            return True
        given = {name: self._inputs[name] for name in self._json_inputs if name in self._inputs}
        try:
            self._inputs = {**self._inputs, **new_inputs(self._flow, given)}
        except KitaruUsageError as error:
            self._attempt.finish(None, describe_failure(error))
            return False
        return True

    def _begin_anew(self) -> bool:
        """Claim the next attempt, as the flow's retries say. False: somebody else had it."""
        claim = queue.claim(self.session.database, queue.candidate(self.session.database, self._exec_id), self._owner)
        if claim is not None:
            self._begin(claim)
        return claim is not None

    def keep_alive(self) -> None:
        """Renew the lease, hear of answers, of times that have come and of a request to cancel, until the run ends."""
        beat_at = 0.0
        while not self._ended.is_set():
            self._wake.wait(self._pause_seconds())
            self._wake.clear()
            if self._ended.is_set():
                return
            try:
                beat_at = self._look(beat_at)
            except KitaruBackendError:
                continue  # the disk may have room in a moment

    def _look(self, beat_at: float) -> float:
        """What has come, what is due, and from `beat_at` on a heartbeat; when the next is to be."""
        waits.fire_due(self.session.database)
        ending.end_late(self.session.database)
        self._journal.poll_answers()
        if self._cut_at is not None:
            self._cut_short()
        elif self._is_to_end():
            self._cancel()
        elif not self._journal.parked and time.monotonic() >= beat_at:
            beat_at = time.monotonic() + BEAT_SECONDS
            self._beat()
        return beat_at

    def _is_to_end(self) -> bool:
        """Whether somebody has asked for that; of one that waits, has ended it."""
        status, asked = queue.standing(self.session.database, self._journal.row)
        return asked or status == "cancelled" or (status == "failed" and self._journal.parked)

    def _cancel(self) -> None:
        """Let the flow end; what it executes may clean up for a moment."""
        with self._turn:
            self._cut_at = time.monotonic() + CANCEL_SECONDS
            self._attempt.cancel()

    def _cut_short(self) -> None:
        """Its time to clean up is over: it has ended for everybody else, and can record nothing any more."""
        if self._cut_at is not None and time.monotonic() >= self._cut_at:
            self._cut_at = float("inf")
            self._end_cancelled()

    def _pause_seconds(self) -> float:
        """Until the next answer may have come, or the next time is there."""
        due_us = self._journal.next_deadline_us
        if due_us is None:
            return ANSWER_POLL_SECONDS
        return min(ANSWER_POLL_SECONDS, max(0.0, (due_us - now_us()) / 1_000_000))

    def _beat(self) -> None:
        with self._turn:
            journal = self._journal
            beat = journal.beat()
            if beat.is_late:
                ending.end_attempt(
                    self.session.database, journal.row, journal.attempt, reason="finish_timeout", counts=False
                )
                self._cancel()
            elif not beat.owned and not journal.parked and not self._ended.is_set():
                self._attempt.halt(KitaruFencedError("another process owns this execution by now"))

    def poke(self) -> None:
        """Something has come for this execution: look now."""
        self._wake.set()

    @property
    def is_parked(self) -> bool:
        return self._journal.parked

    def leave(self, reason: str) -> None:
        """This process is about to end: let the execution be resumed at once."""
        if not self._journal.parked:
            ending.end_attempt(
                self.session.database, self._journal.row, self._journal.attempt, reason=reason, counts=False
            )


class Here:
    """This process, for the children of its executions (source_children.Process)."""

    def has(self, exec_id: ExecutionId) -> bool:
        return is_here(exec_id)

    def start(self, session: Session, flow: FlowDefinition, exec_id: ExecutionId, *, parent: ExecutionId) -> None:
        start(session, flow, exec_id, parent=parent)


runs: dict[ExecutionId, LocalRun] = {}
"""The executions of this process that have not ended."""


def leave_to_parent() -> None:
    """In a fork: the executions are the parent's."""
    global _lock
    _lock = threading.Lock()
    runs.clear()


def claim_source(session: Session, claim: queue.Claim) -> Source | None:
    """What the execution runs on."""
    return reading.get_source(session.database, claim.row)


def poke(exec_id: ExecutionId) -> None:
    """Let an execution of this process, if it is one, look for what has come."""
    with _lock:
        run = runs.get(exec_id)
    if run is not None:
        run.poke()


def is_here(exec_id: ExecutionId) -> bool:
    """Whether this process executes it, and goes on with it if it was retried meanwhile."""
    with _lock:
        run = runs.get(exec_id)
        if run is not None:
            run.again = True
        return run is not None


def poke_all() -> None:
    """Let every execution of this process look for what has come."""
    for exec_id in list(runs):
        poke(exec_id)


def leave_all(reason: str) -> list[ExecutionId]:
    """Give up every execution of this process; the caller ends the process. Their ids."""
    with _lock:
        left = dict(runs)
    for run in left.values():
        run.leave(reason)
    logs.end_lines()
    return list(left)


def end_on_ctrl_c() -> None:
    """Let a Ctrl-C that ends a script's main thread end its flows too: their threads would keep the process alive.

    An interpreter that somebody types at stays, and so do its flows.
    """
    previous = sys.excepthook
    if getattr(previous, "__module__", None) == __name__ or hasattr(sys, "ps1") or sys.flags.interactive:
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        previous(kind, error, trace)
        if issubclass(kind, KeyboardInterrupt):
            end_by_ctrl_c()
        elif REFUSES_THREADS:
            wait_for_all()

    sys.excepthook = hook


def end_by_ctrl_c() -> None:
    """End this process, and say how its executions go on; where it has none, nothing is done."""
    with _lock:
        left = dict(runs)
    if not left:
        return
    leave_all(CTRL_C)
    for exec_id, run in left.items():
        if run.parent in left:
            continue  # goes on with its parent
        waits_for_us = run.is_parked and bool(waits.list_waits(run.session.database, exec_id=exec_id))
        go_on = f"executions input {exec_id} --value ..." if waits_for_us else f"executions resume {exec_id}"
        print(f"kitaru: stopped; go on with: kitaru {go_on}", file=sys.stderr)
    flush()
    os._exit(128 + signal.SIGINT)


@functools.cache
def stay_for_flows() -> None:
    """Let this process stay, when its script has ended, until its executions have."""
    stay_until(wait_for_all)


def wait_for_all() -> None:
    try:
        while left := list(runs.values()):
            for run in left:
                run.over.wait()
    except KeyboardInterrupt:
        end_by_ctrl_c()
