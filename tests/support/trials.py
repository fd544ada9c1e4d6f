"""One random program, run as its seed says, and compared with its model."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

from bodies import LATE, Body, Seen
from models import Model
from programs import Boom, Program, Wait, WaitAny, program_of, walked

from kitaru.testing.clocks import Clock
from kitaru.testing.simulation import Simulation
from kitaru_registry.database import Database, open_database
from kitaru_registry.errors import KitaruTimeoutError
from kitaru_registry.executions import creating, queue, reading, waits
from kitaru_registry.executions.journal import JournalWriter, Row, read_rows
from kitaru_registry.home import Home as Folder
from kitaru_registry.models import ExecutionId
from kitaru_runner import codec
from kitaru_runner.engine import Engine
from kitaru_runner.failures import rebuild
from kitaru_runner.protocol import Encoded


@dataclass(frozen=True)
class Home:
    database: Database
    writer: JournalWriter

    def new(self, *, retries: int = 0) -> ExecutionId:
        encoded = codec.encode({})
        new = creating.NewExecution(
            exec_id=ExecutionId(str(uuid4())), project="default", flow="flow", kind="deployed", inputs={},
            inputs_codec=encoded.codec, inputs_data=encoded.data, input_digest="", actor="test", retries=retries,
        )  # fmt: skip
        creating.create(self.database, new)
        return new.exec_id

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

    def __init__(self, seed: int, program: Program) -> None:
        random = Random(f"answers {seed}")
        self.seed = seed
        stood = [step for step in walked(program.steps) if isinstance(step, Wait | WaitAny)]
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


class Trials(Simulation):
    """Aborts a wait now and then."""

    def give(self, key: str, value: Any) -> None:
        if self.random.random() < 0.05:
            waits.abort(self.database, self.exec_id, key, actor="test", door="test")
        else:
            super().give(key, value)


class Trial:
    def __init__(self, home: Home, seed: int, program: Program | None = None) -> None:
        self.home = home
        self.program = program or program_of(seed)
        self.seed = seed
        self.body = Body(self.program)
        self.seen: list[Seen] = []
        self.rows_before: list[int] = []
        self.random = Random(f"schedule {seed}")

    def run(self) -> None:
        self.exec_id = self.home.new()
        self.answers = Answers(self.seed, self.program)
        with Clock() as clock:
            self.simulation = Trials(
                self.home.database,
                self.home.writer,
                self.exec_id,
                self.body.flow(),
                clock,
                self.random,
                self.answers,
                crashes=self.random.choice((0, 1, 2, 4)),
                before=self._before,
                early=list(self.answers.early),
            )
            self.simulation.run()
        self.rows = self.home.rows(self.exec_id)

    def _before(self, engine: Engine) -> None:
        self.body.seen = Seen()
        self.seen.append(self.body.seen)
        self.rows_before.append(len(self.home.rows(self.exec_id)))

    # What must hold

    def check(self) -> None:
        self.check_traces()
        self.check_counts()
        self.check_model()

    def check_traces(self) -> None:
        """Every attempt saw what the ones before it saw."""
        for earlier, later in zip(self.seen, self.seen[1:], strict=False):
            for name in ("trace", "races"):
                one, other = getattr(earlier, name), getattr(later, name)
                differ = {
                    place: (one[place], other[place])
                    for place in one.keys() & other.keys()
                    if one[place] != other[place]
                }
                assert not differ, f"an attempt saw something else than the one before: {differ}"

    def check_counts(self) -> None:
        """What is recorded was executed once in the attempt that recorded it, and in none after it."""
        recorded: set[tuple[str, int]] = set()
        for number, seen in enumerate(self.seen):
            until = self.rows_before[number + 1] if number + 1 < len(self.seen) else len(self.rows)
            new = {(row.key, row.tries or 1) for row in self.rows[self.rows_before[number] : until] if row.kind in "ct"}
            assert all(count == 1 for count in seen.executed.values()), seen.executed
            again = recorded & set(seen.executed)
            assert not again, f"executed again: {again}"
            outcomes = {(r.key, r.tries or 1): r for r in self.rows if r.kind in "ct"}
            missing = {n for n in new - set(seen.executed) if was_called(outcomes[n])}
            assert not missing, f"recorded, and never executed: {missing}"
            recorded |= new

    def check_model(self) -> None:
        given: dict[tuple[str, str, int], Any] = {}
        found: dict[tuple[str, str, int], Any] = {}
        for row in self.rows:
            outcome = self.outcome(row)
            slot = (row.kind, row.key, (row.tries or 1) if row.kind == "t" else 0)
            # Its caller may be cancelled when the outcome is recorded, and has not had its turn: that comes on top.
            assert slot not in found or outcome == ("cancelled",), f"{slot} twice"
            found[slot] = outcome
            given[row.kind, row.key, row.tries or 1] = outcome
            if row.kind == "w" and not row.key.rpartition("/")[2].startswith("sleep") and outcome != ("cancelled",):
                self.answers.check(row.key, *outcome)
        model = Model(self.program, given, {k: v for seen in self.seen for k, v in seen.races.items()})
        try:
            result: Any = ("completed", model.run())
        except Boom as error:
            result = ("failed", error.args)
        unexpected = found.keys() - model.rows.keys()
        assert not unexpected, f"recorded, and not in the model: {unexpected}"
        missing = {slot for slot in model.rows.keys() - found.keys() if not model.rows[slot].may_miss}
        assert not missing, f"in the model, and not recorded: {missing}"
        for slot, outcome in found.items():
            expected = model.rows[slot]
            if slot[0] in "ct" and expected.outcome is not None and outcome != ("cancelled",):
                assert outcome == expected.outcome, slot
        assert self.result() == result

    def result(self) -> Any:
        record = reading.get_execution(self.home.database, self.exec_id)
        if record.status == "completed":
            return "completed", codec.decode(Encoded(*reading.result_bytes(self.home.database, self.exec_id)))
        error = reading.recorded_error(self.home.database, self.exec_id)
        assert error is not None
        if error["type"] != "Boom":
            raise AssertionError(error.get("traceback", error))
        return record.status, rebuild(error).args

    def outcome(self, row: Row) -> Any:
        if row.error is not None:
            if cancelled(row):
                return ("cancelled",)
            error = rebuild(json.loads(row.error))
            if isinstance(error, KitaruTimeoutError):
                return ("failed", LATE)
            assert isinstance(error, Boom), row.error
            return ("failed", error.args)
        if row.value is None:
            return None
        value = codec.decode(Encoded(row.value.codec, row.value.data or b""))
        if row.kind == "w":
            said = json.loads(row.metadata or "{}").get("outcome", "answered")
            return (said, value)
        return ("value", value)


def cancelled(row: Row) -> bool:
    return row.error is not None and json.loads(row.error)["type"] == "CancelledError"


def was_called(row: Row) -> bool:
    """Not given up before its body began, and not kept from being called by another's failure."""
    return row.error is None or (not cancelled(row) and json.loads(row.error).get("checkpoint") == row.key)


def check_seed(home: Home, seed: int) -> None:
    trial = Trial(home, seed)
    try:
        trial.run()
        trial.check()
    except BaseException as error:
        error.add_note(f"seed {seed}")
        raise
