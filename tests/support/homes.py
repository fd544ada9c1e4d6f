"""Homes in memory, and who answers the waits of random programs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

from programs import Child, Program, Step, Wait, WaitAny, walked

from kitaru_registry.database.opening import Database, open_database
from kitaru_registry.executions import creating, queue
from kitaru_registry.executions.journal import JournalWriter, Row, read_rows
from kitaru_registry.home import Home as Folder
from kitaru_registry.models import ExecutionId
from kitaru_runner.values import codec


@dataclass(frozen=True)
class Home:
    database: Database
    writer: JournalWriter

    def new(self, inputs: dict[str, Any], *, retries: int = 0) -> ExecutionId:
        encoded = codec.encode(inputs)
        new = creating.NewExecution(
            exec_id=ExecutionId(str(uuid4())), project="default", flow="flow", kind="deployed", inputs={},
            inputs_codec=encoded.codec, inputs_data=encoded.data, input_digest="", actor="test", retries=retries,
        )  # fmt: skip
        creating.create(self.database, new)
        return new.exec_id

    def statuses(self, exec_ids: list[str]) -> dict[str, str]:
        marks = ", ".join("?" * len(exec_ids))
        with closing(self.database.engine.raw_connection()) as connection:
            cursor = connection.cursor()
            cursor.execute(f"SELECT exec_id, status FROM executions WHERE exec_id IN ({marks}) ORDER BY id", exec_ids)
            return dict(cursor.fetchall())

    def rows(self, exec_id: ExecutionId) -> list[Row]:
        connection = self.database.hold()
        try:
            return list(read_rows(connection, queue.candidate(self.database, exec_id).row))
        finally:
            connection.close()


@contextmanager
def memory_home() -> Iterator[Home]:
    parent = "/dev/shm" if Path("/dev/shm").is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="kitaru-", dir=parent))
    database = open_database(Folder(folder), synchronous="OFF")
    writer = JournalWriter(database)
    try:
        yield Home(database, writer)
    finally:
        writer.close()
        database.close()
        shutil.rmtree(folder)


class Answers:
    """Answers that follow from the wait's key; those that come early, from its name.

    Some of the waits that expire are never answered.
    """

    def __init__(self, seed: str, program: Program | Child) -> None:
        random = Random(f"answers {seed}")
        stood = [step for step in own_steps(program.steps) if isinstance(step, Wait | WaitAny)]
        names = {name for step in stood for name in names_of(step)}
        needed = {name for step in stood if step.timeout_seconds is None for name in names_of(step)}
        self._unanswered = {name for name in sorted(names - needed) if random.random() < 0.5}
        early = [name for name in sorted(names - self._unanswered) if random.random() < 0.2]
        self.early = [(name, f"early {name}") for name in early]

    def answer(self, name: str, key: str) -> tuple[Any] | None:
        return None if name in self._unanswered else (f"answer to {key}",)

    def check(self, key: str, outcome: str, value: Any) -> None:
        """Whether this may be recorded of the wait of that key."""
        if outcome != "answered" or value is None:
            return
        if isinstance(value, dict):
            name, said, key = value["name"], value["value"], f"{key}/{value['name']}"
        else:
            name, said = key.rpartition("/")[2].partition("#")[0], value
        assert said in (f"answer to {key}", f"early {name}"), (key, said)


def names_of(step: Wait | WaitAny) -> tuple[str, ...]:
    return step.names if isinstance(step, WaitAny) else (step.name,)


def own_steps(steps: tuple[Step, ...]) -> list[Step]:
    """Those of a program, without its children's."""
    of_children = {inside.number for step in walked(steps) if isinstance(step, Child) for inside in walked(step.steps)}
    return [step for step in walked(steps) if step.number not in of_children]
