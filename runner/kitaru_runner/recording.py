"""The journal as this process writes it: over the registry, fenced by the attempt."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from kitaru_registry.database import Database
from kitaru_registry.errors import KitaruNotFoundError
from kitaru_registry.executions import queue, reading, waits
from kitaru_registry.executions.journal import Artifact, JournalWriter, Row, Value, read_rows
from kitaru_registry.executions.values import ValueStore
from kitaru_runner.protocol import INLINE_BYTES, Answers, Encoded, Entry, Opening, Outcome, Saved, WaitRequest


class RegistryJournal:
    """One attempt's journal (protocol.Journal). A runner gives it frames, an in-process run plain calls.

    `stays` says whether the process stays when it parks.
    """

    def __init__(
        self, database: Database, writer: JournalWriter, row: int, attempt: int, *, stays: bool,
        lease_seconds: int = queue.LEASE_SECONDS,
    ) -> None:  # fmt: skip
        self._database = database
        self._writer = writer
        self._values = ValueStore(database.home.values)
        self._stays = stays
        self._lease_seconds = lease_seconds
        self.row = row
        self.attempt = attempt
        self.listener: Answers | None = None
        self.parked = False
        self._lock = threading.Lock()
        self._heard: set[str] = set()
        self._standing: set[str] = set()
        self._in_flight: dict[tuple[str, int], dict[str, Any]] = {}
        self._in_flight_changed = False

    def open(self, claim: queue.Claim, *, entrypoint: str) -> Opening:
        """All that is recorded. Large values come without their bytes."""
        connection = self._database.hold()
        try:
            entries = tuple(self._as_entry(row) for row in read_rows(connection, self.row))
        finally:
            connection.close()
        self._heard = {entry.key for entry in entries if entry.kind == "w"}
        inputs = Encoded(claim.inputs_codec, claim.inputs_data)
        return Opening(claim.exec_id, self.attempt, claim.flow, entrypoint, 0, inputs, entries)

    def record(self, entries: Sequence[Entry]) -> int:
        last = self._writer.append(self.row, self.attempt, [self._as_row(entry) for entry in entries])
        with self._lock:
            for entry in entries:
                if entry.kind in "ct":
                    self._in_flight.pop((entry.key, entry.tries or 1), None)
                    self._in_flight_changed = True
                elif entry.kind == "w":
                    self._heard.add(entry.key)
        return last

    def started(self, key: str, name: str, tries: int, at_us: int) -> None:
        with self._lock:
            self._in_flight[key, tries] = {"key": key, "name": name, "tries": tries, "started_us": at_us}
            self._in_flight_changed = True

    def open_wait(self, wait: WaitRequest) -> bytes | None:
        known = waits.open_wait(self._database, self.row, self.attempt, vars_of(wait))
        with self._lock:
            if known is not None:
                self._heard.add(wait.key)
                return as_answer(known.answer)
            self._standing.add(wait.key)
        return None

    def park(self) -> bool:
        with self._lock:
            heard = set(self._heard)
        unheard = queue.park(self._database, self.row, self.attempt, heard)
        if unheard:
            self._tell(unheard)
            return False
        self.parked = True
        return not self._stays

    def poll_answers(self) -> None:
        """Tell the listener of answers that came since; wake the execution where it was parked and its process stayed.

        To be called again and again while a wait is open.
        """
        with self._lock:
            if not self._standing:
                return
            heard = set(self._heard)
        new = queue.new_answers(self._database, self.row, heard)
        if not new:
            return
        if self.parked:
            self.parked = False
            queue.unpark(self._database, self.row, self.attempt)
        self._tell(new)

    def _tell(self, answers: Mapping[str, Any]) -> None:
        for key, answer in answers.items():
            with self._lock:
                self._heard.add(key)
                self._standing.discard(key)
            if self.listener is not None:
                self.listener.answered(key, as_answer(answer))

    def value(self, entry: Entry) -> Encoded:
        connection = self._database.hold()
        try:
            found = connection.execute(
                "SELECT codec, value_digest FROM journal WHERE execution = ? AND seq = ?", (self.row, entry.seq)
            ).fetchone()
        finally:
            connection.close()
        if found is None:
            raise KitaruNotFoundError(f"the journal has no entry {entry.seq}")
        return Encoded(found[0], self._values.get(found[1]))

    def load(self, exec_id: str, name: str) -> Encoded:
        found = reading.find_id(self._database, exec_id)
        return Encoded(*reading.read_artifact(self._database, found, name))

    def finish(self, outcome: Outcome) -> None:
        result = self._writer.value(outcome.value.codec, outcome.value.data) if outcome.value else None
        queue.finish(self._database, self.row, self.attempt, result=result, error=outcome.error)

    def beat(self) -> queue.Beat:
        """Renew the lease and show what runs."""
        with self._lock:
            changed, self._in_flight_changed = self._in_flight_changed, False
            running = list(self._in_flight.values()) if changed else None
        return queue.beat(self._database, self.row, self.attempt, running, lease_seconds=self._lease_seconds)

    def running_keys(self) -> list[str]:
        with self._lock:
            return [call["key"] for call in self._in_flight.values()]

    def _as_row(self, entry: Entry) -> Row:
        return Row(
            kind=entry.kind,
            key=entry.key,
            ended_us=entry.ended_us,
            name=entry.name,
            value=self._stored(entry.value) if entry.value else None,
            error=compact(entry.error) if entry.error else None,
            tries=entry.tries,
            place=entry.place,
            type=entry.type,
            inputs=entry.inputs,
            started_us=entry.started_us,
            metadata=compact(entry.metadata) if entry.metadata else None,
            artifacts=tuple(self._as_artifact(saved) for saved in entry.saved),
        )

    def _stored(self, value: Encoded) -> Value:
        return self._writer.value(value.codec, value.data)

    def _as_artifact(self, saved: Saved) -> Artifact:
        return Artifact(saved.name, saved.type, saved.tags, self._stored(saved.value))

    def _as_entry(self, row: Row) -> Entry:
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
        )


def vars_of(wait: WaitRequest) -> dict[str, Any]:
    return {
        "key": wait.key,
        "name": wait.name,
        "question": wait.question,
        "schema": wait.schema,
        "metadata": wait.metadata,
        "entered_us": wait.entered_us,
    }


def as_answer(answer: Mapping[str, Any]) -> bytes:
    return compact(answer["value"]).encode()


def compact(value: Any) -> str:
    # ASCII: a message of the user's may hold a lone surrogate, which is no UTF-8.
    return json.dumps(value, separators=(",", ":"))
