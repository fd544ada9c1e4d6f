"""The journal as this process writes it: over the registry, fenced by the attempt."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Protocol

from kitaru_registry.clock import now_us
from kitaru_registry.database.opening import Database
from kitaru_registry.errors import KitaruBackendError, KitaruContextError, KitaruNotFoundError
from kitaru_registry.executions import artifacts, caching, ending, queue, reading, waits
from kitaru_registry.executions.creating import NewExecution
from kitaru_registry.executions.inputs import load as load_inputs
from kitaru_registry.executions.journal import VALUE, Artifact, JournalWriter, PlainRow, Row, Value, read_rows
from kitaru_registry.executions.superseding import Current, counts_whole, current_rows
from kitaru_registry.executions.values import IN_ROW_BYTES, values_of
from kitaru_registry.journal.entries import (
    COMMON,
    NOTHING_RARE,
    OF_CALLS,
    Answer,
    ChildRequest,
    Encoded,
    Entry,
    Kind,
    Loaded,
    Opening,
    Outcome,
    Saved,
    WaitRequest,
)
from kitaru_registry.journal.frames import INLINE_BYTES
from kitaru_registry.journal.giving_up import says_given_up
from kitaru_registry.journal.interface import Answers, Recorded, nothing
from kitaru_registry.journal.json_text import compact
from kitaru_registry.journal.keys import PAUSE
from kitaru_registry.models import ExecutionId


class Children(Protocol):
    """Who makes and begins child executions."""

    def prepare(self, parent: queue.Claim, request: ChildRequest) -> NewExecution:
        """What the child execution is made of.

        Raises:
            KitaruError: there is no such flow or version, or the inputs do not fit.
        """

    def begin(self, exec_id: ExecutionId) -> None:
        """See to it that somebody works on it. To be called for one that exists, again and again."""


class RegistryJournal:
    """One attempt's journal (journal.interface). A runner gives it frames, an in-process run plain calls.

    `stays` says whether the process stays when it parks. `children` makes executions of flows of the same code.
    """

    def __init__(
        self, database: Database, writer: JournalWriter, claim: queue.Claim, *, stays: bool, code: str = "",
        children: Children | None = None, lease_seconds: int = queue.LEASE_SECONDS,
    ) -> None:  # fmt: skip
        self._database = database
        self._writer = writer
        self._values = values_of(database)
        self._stays = stays
        self._lease_seconds = lease_seconds
        self._claim = claim
        self._code = code
        self._children = children
        self.row = claim.row
        self.attempt = claim.attempt
        self.listener: Answers | None = None
        self.may_pickle = True
        self.strict = False
        self.parked = False
        self._lock = threading.Lock()
        # What the process stands at: key of a wait to whether it was told of its answer.
        self._open: dict[str, bool] = {}
        self._groups: dict[str, list[str]] = {}
        self._deadlines: dict[str, int] = {}
        self._in_flight: dict[tuple[str, int], tuple[str, int]] = {}
        self._in_flight_said: list[dict[str, Any]] = []
        self._watch: Callable[[], list[dict[str, Any]]] | None = None
        self._outcomes: set[str] = set()
        """Keys of the calls whose outcome this attempt has recorded."""

    def open(self, *, entrypoint: str) -> Opening:
        """All that is recorded, as it counts now. Large values come without their bytes."""
        opening, entries = self.open_to_send(entrypoint=entrypoint)
        return replace(opening, entries=tuple(entries))

    def open_to_send(self, *, entrypoint: str) -> tuple[Opening, Iterator[Entry]]:
        """As `open`, with the entries apart: they are read while they are taken, where none was superseded."""
        claim = self._claim
        is_whole = claim.replay is None and self._is_whole()
        rows, accepted = (None, ()) if is_whole else self._current()
        opening = Opening(
            claim.exec_id, self.attempt, claim.flow, claim.entrypoint or entrypoint, 0,
            Encoded(claim.inputs_codec, load_inputs(self._database, claim)), (),
            cache=claim.cache, code=self._code, replay=claim.replay, accepted=accepted,
            may_pickle=self.may_pickle,
            strict=self.strict,
        )  # fmt: skip
        return opening, map(self._as_entry, self._all() if rows is None else rows)

    def _is_whole(self) -> bool:
        with self._database.holding() as connection:
            return counts_whole(connection, self.row)

    def _current(self) -> tuple[list[Current], tuple[tuple[str, int], ...]]:
        with self._database.holding() as connection:
            return current_rows(list(read_rows(connection, self.row)), self._claim.replay)

    def _all(self) -> Iterator[Current]:
        with self._database.holding() as connection:
            yield from map(Current, read_rows(connection, self.row))

    def record(self, entries: Sequence[Entry], recorded: Recorded = nothing) -> int:
        if self.parked:
            self._go_on()
        self._refuse_second_outcomes(entries)

        def known(last: int) -> None:
            # First: whoever goes on by what is recorded may end the process.
            self._end_tries(entries)
            recorded(last)

        last = self._writer.append(self.row, self.attempt, list(map(as_row, entries)), known)
        for entry in entries:
            if entry.kind == Kind.WAIT:
                self._close_wait(entry)
        return last

    def _refuse_second_outcomes(self, entries: Sequence[Entry]) -> None:
        """
        Raises:
            KitaruBackendError: a call has its outcome, and this is another: two processes act for one. But that its
                caller had given up when the outcome was durable is said by a second entry.
        """
        new: set[str] = set()
        for entry in entries:
            if entry.kind != Kind.CALL:
                continue
            if (entry.key in self._outcomes or entry.key in new) and not says_given_up(entry.error):
                raise KitaruBackendError(f"{entry.key} has its outcome already; a second one was refused")
            new.add(entry.key)

    def _end_tries(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.kind == Kind.CALL:
                self._outcomes.add(entry.key)
            if entry.kind in OF_CALLS:
                self._in_flight.pop((entry.key, entry.tries or 1), None)
                if self._open:
                    self._forget_pauses(entry.key)

    def _close_wait(self, entry: Entry) -> None:
        if entry.error is not None:
            waits.close(self._database, self.row, entry.key)
        with self._lock:
            for key in self._groups.pop(entry.key, [entry.key]):
                self._open.pop(key, None)
                self._deadlines.pop(key, None)

    def started(self, key: str, name: str, tries: int, at_us: int) -> None:
        if self._open:
            self._forget_pauses(key)
        self._in_flight[key, tries] = name, at_us

    def left(self, key: str, tries: int) -> None:
        self._in_flight.pop((key, tries), None)

    def _forget_pauses(self, key: str) -> None:
        """The pauses between the tries of that call are over."""
        with self._lock:
            for paused in [known for known in self._open if known.startswith(f"{key}{PAUSE}")]:
                self._open.pop(paused)
                self._deadlines.pop(paused, None)

    def open_wait(self, wait: WaitRequest) -> Answer | None:
        self._go_on()
        known = waits.open_wait(self._database, self.row, self.attempt, vars_of(wait))
        with self._lock:
            self._open[wait.key] = known is not None
            if wait.deadline_us is not None:
                # As of now: an earlier attempt may have opened it, with an earlier deadline.
                self._deadlines[wait.key] = waits.deadline_of(self._database, self.row, wait.key) or wait.deadline_us
            if wait.any_of is not None:
                self._groups.setdefault(wait.any_of, []).append(wait.key)
        return as_answer(known) if known is not None else None

    @property
    def next_deadline_us(self) -> int | None:
        """When the next time comes that the process stands at."""
        with self._lock:
            return min(self._deadlines.values(), default=None)

    def park(self) -> bool:
        if self.parked:
            return not self._stays
        with self._lock:
            open_keys = list(self._open)
        came, waits_now = queue.park(self._database, self.row, self.attempt, open_keys)
        self._tell(came)
        if not waits_now:
            return False
        self.parked = True
        self._in_flight_said = []
        return not self._stays

    def poll_answers(self) -> None:
        """Tell the listener of answers that came since; wake the execution where it was parked and its process stayed.

        To be called again and again while a wait is open.
        """
        with self._lock:
            untold = [key for key, told in self._open.items() if not told]
        if not untold:
            return
        new = waits.new_answers(self._database, self.row, untold)
        if not new:
            return
        self._go_on()
        self._tell(new)

    def _go_on(self) -> None:
        """A process that stayed goes on with the same attempt: an answer came, or it was not quite at rest."""
        if self.parked:
            self.parked = False
            queue.unpark(self._database, self.row, self.attempt)

    def _tell(self, answers: Mapping[str, Any]) -> None:
        for key, answer in answers.items():
            with self._lock:
                for own in self._groups.get(key, [key]):
                    self._open[own] = True
            if self.listener is not None:
                self.listener.answered(key, as_answer(answer))

    def value(self, entry: Entry) -> Encoded:
        with self._database.holding() as connection:
            found = connection.first(VALUE, self.row, entry.seq)
        if found is None:
            raise KitaruNotFoundError(f"the journal has no entry {entry.seq}")
        return Encoded(found[0], self._values.get(found[1]))

    def load(self, exec_id: str, name: str, index: int | None = None) -> Loaded:
        found = reading.find_id(self._database, exec_id)
        artifact, data = artifacts.pick(self._database, found, name, index=index)
        mine = self._database.home.is_own or reading.is_of_digest(self._database, found, self._claim.digest)
        return Loaded(Encoded(artifact.codec, data), artifact.artifact_id, mine)

    def cached(self, key: bytes) -> tuple[Encoded, str] | None:
        found = caching.find_cached(self._database, self._claim.project, key, digest=self._claim.digest)
        if found is None:
            return None
        data = found.data if found.data is not None else self._values.get(found.value_digest)
        return Encoded(found.codec, data), f"{found.exec_id}:{found.key}"

    def child(self, request: ChildRequest) -> tuple[str, int]:
        self._go_on()
        children = self._may_have_children()
        new = children.prepare(self._claim, request)
        row = Row(
            "x", request.key, now_us(), place=request.place, inputs=request.digest,
            value=self._writer.value("json", compact(new.exec_id).encode()), child=new,
        )  # fmt: skip
        seq = self._writer.append(self.row, self.attempt, [row])
        children.begin(new.exec_id)
        return new.exec_id, seq

    def attend(self, exec_id: str) -> None:
        self._may_have_children().begin(ExecutionId(exec_id))

    def _may_have_children(self) -> Children:
        if self._children is None:
            raise KitaruContextError("child flows cannot be started here", hint="start the flow by itself")
        return self._children

    def outcome(self, exec_id: str) -> Outcome:
        return child_outcome(self._database, exec_id)

    def stop(self, key: str) -> None:
        ending.stop(self._database, self.row, self.attempt, key=key)

    def finish(self, outcome: Outcome) -> bool:
        self._go_on()
        with self._writer.naming():
            result = self._writer.value(outcome.value.codec, outcome.value.data) if outcome.value else None
            return ending.finish(self._database, self.row, self.attempt, result=result, error=outcome.error)

    def beat(self) -> queue.Beat:
        """Renew the lease and show what runs."""
        running = self.running()
        known, self._in_flight_said = self._in_flight_said, running
        return queue.beat(
            self._database, self.row, self.attempt, running if running != known else None,
            lease_seconds=self._lease_seconds,
        )  # fmt: skip

    def running_keys(self) -> list[str]:
        return [call["key"] for call in self.running()]

    def watch(self, in_flight: Callable[[], list[dict[str, Any]]]) -> None:
        """Ask there for what is under way, instead of being told."""
        self._watch = in_flight

    def running(self) -> list[dict[str, Any]]:
        """The tries that are under way: `key`, `name`, `tries`, `started_us`."""
        if self._watch is not None:
            return self._watch()
        # A copy, made at once: other threads begin and end tries.
        under_way = self._in_flight.copy().items()
        return [{"key": key, "name": name, "tries": tries, "started_us": at} for (key, tries), (name, at) in under_way]

    def _as_entry(self, current: Current) -> Entry:
        row, soft = current.row, current.soft
        value, size = None, None
        if row.value is not None and row.value.data is not None:
            value = Encoded(row.value.codec, row.value.data)
        elif row.value is not None and row.value.digest is not None:
            size = self._values.size(row.value.digest)
            if size <= INLINE_BYTES:
                value, size = Encoded(row.value.codec, self._values.get(row.value.digest)), None
        return Entry(
            kind=row.kind,
            key=row.key,
            ended_us=row.ended_us,
            name=row.name,
            seq=row.seq,
            value=value,
            error=json.loads(row.error) if row.error else None,
            tries=row.tries,
            place=row.place,
            type=row.type,
            inputs=row.inputs,
            started_us=row.started_us,
            metadata=json.loads(row.metadata) if row.metadata else None,
            size=size,
            cache_key=row.cache_key,
            parents=tuple(json.loads(row.parents)) if row.parents else (),
            flags=row.flags or 0,
            soft=soft,
        )


def child_outcome(database: Database, exec_id: str) -> Outcome:
    """How an execution stands; its value or its error once it has ended."""
    found = ExecutionId(exec_id)
    status = reading.get_status(database, found)
    if status == "completed":
        return Outcome(Encoded(*reading.result_bytes(database, found)), None, status)
    if status == "failed":
        return Outcome(None, reading.recorded_error(database, found), status)
    return Outcome(None, None, status)


def vars_of(wait: WaitRequest) -> dict[str, Any]:
    return {field.name: getattr(wait, field.name) for field in fields(wait)}


def as_answer(came: Mapping[str, Any]) -> Answer:
    return Answer(compact(came["value"]).encode(), came["outcome"])


def as_row(entry: Entry) -> Row | PlainRow:
    value, inputs = entry.value, entry.inputs
    if entry[COMMON:] == NOTHING_RARE and inputs is not None and value is not None and len(value.data) <= IN_ROW_BYTES:
        return PlainRow(
            entry.kind, entry.key, entry.ended_us, value.codec, bytearray(value.data), entry.place, bytearray(inputs),
            entry.started_us,
        )  # fmt: skip
    return Row(
        kind=entry.kind,
        key=entry.key,
        ended_us=entry.ended_us,
        name=entry.name,
        value=Value(value.codec, value.data, None) if value is not None else None,
        error=compact(entry.error) if entry.error else None,
        tries=entry.tries,
        place=entry.place,
        type=entry.type,
        inputs=inputs,
        started_us=entry.started_us,
        metadata=compact(entry.metadata) if entry.metadata else None,
        artifacts=tuple(map(as_artifact, entry.saved)),
        cache_key=entry.cache_key,
        parents=compact(entry.parents) if entry.parents else None,
        flags=entry.flags or None,
    )


def as_artifact(saved: Saved) -> Artifact:
    return Artifact(saved.name, saved.type, saved.tags, Value(saved.value.codec, saved.value.data, None))
