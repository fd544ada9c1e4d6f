"""Executions on a real home whose attempts run in the test's own process, and can be cut short at any write."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from kitaru.testing.clocks import Clock
from kitaru.testing.crashes import Crash, EndingJournal
from kitaru_registry.database.opening import Database
from kitaru_registry.executions import creating, ending, queue, reading, waits
from kitaru_registry.executions.attempt_journal import RegistryJournal
from kitaru_registry.executions.journal import JournalWriter, Row, read_rows
from kitaru_registry.home import Home
from kitaru_registry.journal.entries import Encoded
from kitaru_registry.models import Execution, ExecutionId
from kitaru_runner.engine.body.body import run_body
from kitaru_runner.engine.core.attempt import Attempt
from kitaru_runner.host.children import Children
from kitaru_runner.values import codec
from kitaru_runner.values.failures import ProcessEnded

PATIENCE_SECONDS = 20
OWNER = queue.Owner("test", os.getpid(), "here")


@dataclass
class InThread:
    """One attempt, which may run in a thread of its own."""

    journal: RegistryJournal
    ending: EndingJournal
    thread: threading.Thread | None = None
    raised: list[BaseException] = field(default_factory=list)

    def wait_until_asked(self) -> None:
        assert self.ending.asked.wait(PATIENCE_SECONDS), "the execution opened no wait"

    def wait_until_parked(self) -> None:
        assert self.ending.parked.wait(PATIENCE_SECONDS), "the execution did not park"

    def hear(self) -> None:
        """What the heartbeat's thread does again and again."""
        self.journal.poll_answers()

    def join(self) -> None:
        assert self.thread is not None
        self.thread.join(PATIENCE_SECONDS)
        assert not self.thread.is_alive(), "the attempt did not end"


@dataclass
class TestExecution:
    """An execution whose body the test gives anew for each attempt."""

    __test__ = False

    database: Database
    writer: JournalWriter
    exec_id: ExecutionId
    row: int

    def begin(
        self, *, writes: int | None = None, stays: bool = False, owner: queue.Owner = OWNER
    ) -> tuple[Attempt, InThread, Mapping[str, Any]]:
        """Claim the execution as its next attempt; its attempt, and the inputs for its body."""
        queue.make_due(self.database, self.exec_id)
        claim = queue.claim(self.database, queue.candidate(self.database, self.exec_id), owner)
        assert claim is not None, f"{self.exec_id} is {self.status}"
        journal = RegistryJournal(self.database, self.writer, claim, stays=stays, children=Children(self.database))
        ending = EndingJournal(journal, crash=None if writes is None else Crash(writes + 1), stays=stays)
        attempt = Attempt(ending, journal.open(entrypoint="flows.py:flow"))
        journal.listener = attempt.parking
        return attempt, InThread(journal, ending), codec.decode(Encoded(claim.inputs_codec, claim.inputs_data))

    def attempt(self, body: Callable[..., Any], *, writes: int | None = None) -> Execution:
        """Run one attempt to its end: the body's, its parking, or the first write after `writes`."""
        attempt, _, inputs = self.begin(writes=writes)
        try:
            run_body(attempt, body, inputs)
        except ProcessEnded:
            pass
        return self.record

    def attempt_in_thread(self, body: Callable[..., Any], *, stays: bool = True) -> InThread:
        """Start an attempt beside the test. One that stays stands at its waits, as `.run()` does."""
        attempt, beside, inputs = self.begin(stays=stays)

        def run() -> None:
            try:
                run_body(attempt, body, inputs)
            except BaseException as error:
                beside.raised.append(error)

        beside.thread = threading.Thread(target=run)
        beside.thread.start()
        return beside

    def answer(self, key: str, value: Any) -> None:
        waits.answer(self.database, self.exec_id, key, value, actor="me@laptop", door="test")

    def answer_early(self, name: str, value: Any) -> None:
        waits.answer_early(self.database, self.exec_id, name, value, actor="me@laptop", door="test")

    def let_pass(self, clock: Clock, seconds: float) -> None:
        """Let the time pass, and end what is due then, as any runner of the home does."""
        clock.advance(seconds=seconds)
        waits.fire_due(self.database)

    def retry(self) -> None:
        ending.retry(self.database, self.exec_id, actor="me@laptop")

    @property
    def record(self) -> Execution:
        return reading.get_execution(self.database, self.exec_id)

    @property
    def status(self) -> str:
        return self.record.status

    @property
    def result(self) -> Any:
        """The decoded result of the completed execution."""
        record = self.record
        assert record.status == "completed", record.error or record.status
        return codec.decode(Encoded(*reading.result_bytes(self.database, self.exec_id)))

    @property
    def rows(self) -> list[Row]:
        connection = self.database.hold()
        try:
            return list(read_rows(connection, self.row))
        finally:
            connection.close()

    @property
    def keys(self) -> list[str]:
        """Of everything in the journal, in recorded order."""
        return [row.key for row in self.rows]

    @property
    def outcomes(self) -> dict[str, Any]:
        """Key to value, or to the failure's type, of every checkpoint."""
        found: dict[str, Any] = {}
        for row in self.rows:
            if row.kind == "c" and row.value is not None and row.value.data is not None:
                found[row.key] = codec.decode(Encoded(row.value.codec, row.value.data))
            elif row.kind == "c":
                found[row.key] = row.error
        return found


@dataclass(frozen=True)
class Executions:
    """Makes executions on one home."""

    database: Database
    writer: JournalWriter

    def new(self, *, kind: str = "deployed", flow: str = "flow", retries: int = 0, **inputs: Any) -> TestExecution:
        encoded = codec.encode(inputs)
        new = creating.NewExecution(
            exec_id=ExecutionId(str(uuid4())), project="default", flow=flow, kind=kind, inputs={},
            inputs_codec=encoded.codec, inputs_data=encoded.data, input_digest="", actor="me@laptop", retries=retries,
        )  # fmt: skip
        creating.create(self.database, new)
        return TestExecution(self.database, self.writer, new.exec_id, queue.candidate(self.database, new.exec_id).row)


@contextmanager
def executions_on(home: Home) -> Iterator[Executions]:
    from kitaru_registry.database.opening import open_database

    database = open_database(home, synchronous="OFF")
    writer = JournalWriter(database)
    yield Executions(database, writer)
    writer.close()
    database.close()
