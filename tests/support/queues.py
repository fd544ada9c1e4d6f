"""Executions in every state, made by the functions that make them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import select

from kitaru_registry.database.opening import Database
from kitaru_registry.database.tables import executions
from kitaru_registry.executions import creating, ending, queue, waits
from kitaru_registry.executions.journal import JournalWriter, Row
from kitaru_registry.models import Digest, ExecutionId

ME = queue.Owner("runner:1", 1, "here")
ANOTHER = queue.Owner("runner:2", 2, "there")


@dataclass(frozen=True)
class Queue:
    database: Database
    writer: JournalWriter

    def new(self, *, status: str = "pending", **given: Any) -> QueuedExecution:
        """An execution that has come to `status` by the ways there are."""
        made = self._create(**given)
        if status in ("running", "waiting", "completed", "failed"):
            made.claim()
        if status == "waiting":
            made.ask("approve")
            made.park()
        elif status == "completed":
            made.finish()
        elif status == "failed":
            made.finish(error={"type": "ValueError", "message": "no", "origin": "user_code"})
        elif status == "cancelled":
            made.cancel()
        assert made.status == status
        return made

    def _create(self, *, key: str | None = None, inputs: str = "", **given: Any) -> QueuedExecution:
        new = creating.NewExecution(
            exec_id=ExecutionId(str(uuid4())), project="default", flow="review", kind="deployed", inputs={},
            inputs_codec="json", inputs_data=b"{}", input_digest=inputs, actor="me@laptop",
            idempotency_key=key, **given,
        )  # fmt: skip
        found, _ = creating.create(self.database, new)
        return QueuedExecution(self.database, self.writer, found)


@dataclass(frozen=True)
class QueuedExecution:
    database: Database
    writer: JournalWriter
    exec_id: ExecutionId

    @property
    def row(self) -> Any:
        with self.database.read() as connection:
            return connection.execute(select(executions).where(executions.c.exec_id == self.exec_id)).one()

    @property
    def status(self) -> str:
        return str(self.row.status)

    @property
    def seen(self) -> queue.Candidate:
        return queue.candidate(self.database, self.exec_id)

    @property
    def is_claimable(self) -> bool:
        """Whether runners find it among what they may claim."""
        return self.exec_id in {found.exec_id for found in queue.claimable(self.database)}

    def claim(self, *, seen: queue.Candidate | None = None, owner: queue.Owner = ME) -> queue.Claim | None:
        return queue.claim(self.database, seen or self.seen, owner)

    def write(self, key: str = "research", *, attempt: int | None = None, rows: int = 1) -> int:
        """Record checkpoints, as the attempt that is current or as another."""
        given = [Row("c", f"{key}{number or ''}", 1) for number in range(rows)]
        return self.writer.append(self.row.id, self.row.attempt if attempt is None else attempt, given)

    def ask(
        self, key: str, *, attempt: int | None = None, schema: Mapping[str, Any] | None = None,
        any_of: str | None = None,
    ) -> Any:  # fmt: skip
        wait = {
            "key": key, "name": key.rpartition("/")[2].partition("#")[0], "question": "Publish?", "schema": schema,
            "metadata": None, "entered_us": 1, "kind": "input", "any_of": any_of,
        }  # fmt: skip
        return waits.open_wait(self.database, self.row.id, self.row.attempt if attempt is None else attempt, wait)

    def park(self, *standing: str, attempt: int | None = None) -> dict[str, Any]:
        """What has come meanwhile to the waits that the process stands at."""
        came, _ = queue.park(self.database, self.row.id, self.row.attempt if attempt is None else attempt, standing)
        return came

    def answer(self, key: str, value: Any, *, actor: str = "me@laptop") -> Any:
        return waits.answer(self.database, self.exec_id, key, value, actor=actor, door="test")

    def finish(self, *, error: Mapping[str, Any] | None = None, attempt: int | None = None) -> None:
        row = self.row
        ending.finish(self.database, row.id, row.attempt if attempt is None else attempt, result=None, error=error)

    def lose_process(self, *, counts: bool = True, attempt: int | None = None) -> str | None:
        row = self.row
        return ending.end_attempt(
            self.database,
            row.id,
            row.attempt if attempt is None else attempt,
            reason="killed by SIGKILL",
            counts=counts,
        )

    def postpone(
        self, *, pause_seconds: float = 0.0, began: bool = False, alike: str | None = None
    ) -> str | None:  # fmt: skip
        row = self.row
        return ending.postpone(
            self.database, row.id, row.attempt, reason="no such Python", pause_seconds=pause_seconds, began=began,
            alike=Digest(alike) if alike else None,
        )  # fmt: skip

    def beat(self, *, attempt: int | None = None) -> queue.Beat:
        row = self.row
        return queue.beat(self.database, row.id, row.attempt if attempt is None else attempt, None)

    def cancel(self) -> str:
        return ending.request_cancel(self.database, self.exec_id, actor="me@laptop")
