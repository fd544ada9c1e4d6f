"""Replays of random programs that have ended: what was recorded before a random call is reused, the rest executes."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from uuid import uuid4

from again import epochs_of
from families import Family
from homes import Home
from judging import judges, was_called
from programs import Program

from kitaru.testing.clocks import Clock
from kitaru_registry.executions import replays
from kitaru_registry.executions.creating import NewExecution
from kitaru_registry.executions.journal import Row
from kitaru_registry.executions.replaying import Wanted, parse_overrides, plan
from kitaru_registry.models import ExecutionId
from kitaru_runner.values import codec

GIVEN = 4711
"""What some replays are given for the call that they begin at."""

SHARE = 0.25
"""Of the programs that may be replayed."""


def is_replayed(family: Family) -> bool:
    """Of some seeds: what has children of its own, or was retried, is not."""
    return len(family.members) == 1 and not family.outage.comes and Random(f"replayed {family.seed}").random() < SHARE


class Replayed:
    """The replay of an execution that has ended, from a random call on, with crashes of its own."""

    def __init__(self, home: Home, family: Family) -> None:
        self.home = home
        self.original = family.root
        self.random = Random(f"replay {family.seed}")
        self.seed = family.seed
        self.recorded = [row for row in self.original.rows if row.kind == "c"]

    def check(self) -> None:
        calls = [row for row in self.recorded if "/try" not in row.key and was_called(row)]
        if calls:
            self.check_from(self.random.choice(calls))

    def check_from(self, begin: Row) -> None:
        overridden = {begin.key: GIVEN} if self.random.random() < 0.4 else {}
        program = self.original.program
        assert isinstance(program, Program)
        with Clock() as clock:
            made = self.make(begin.key, overridden)
            family = Family(self.home, self.seed, program, self.random, clock, made)
            family.run()
        original = epochs_of(self.original.rows, self.original.seen, self.original.rows_before)[-1]
        found_by = judges(self.home, family, overridden, original)
        for judge in found_by.values():
            judge.check()
        judge = found_by[family.root.exec_id]
        executed = {key for seen in judge.seen for key, _ in seen.executed}
        before = {row.key for row in self.recorded if row.seq < begin.seq and not is_part_of(row.key, begin.key)}
        assert not executed & before, f"a replay from {begin.key} executed what came before: {executed & before}"
        found = {row.key for row in judge.rows if row.kind == "c" and was_called(row)}
        if overridden:
            assert begin.key not in executed, f"executed, and its value was given: {begin.key}"
        else:
            must = found & judge.model().called(0)
            assert begin.key in executed or begin.key not in must, f"not executed again: {begin.key}"

    def make(self, key: str, overridden: Mapping[str, int]) -> ExecutionId:
        original = replays.read_original(self.home.database, self.original.exec_id)
        row = original.row
        new = NewExecution(
            exec_id=ExecutionId(str(uuid4())), project="default", flow="flow", kind="deployed", inputs={},
            inputs_codec=row.inputs_codec, inputs_data=row.inputs_data, input_digest="", actor="test",
            replay={"of": row.exec_id, "from": key, "only_recorded": False},
        )  # fmt: skip
        overrides = parse_overrides({f"checkpoint.{key}": value for key, value in overridden.items()})
        made = plan(original.known, Wanted(None if overridden else key, overrides))
        encoded = {it.key: codec.encode(it.override.value) for it in made.given}
        values = {key: replays.stored(self.home.database, it.codec, it.data) for key, it in encoded.items()}
        return replays.create_replay(self.home.database, new, original, made, values=values, answers={})[0]


def is_part_of(key: str, of: str) -> bool:
    return key == of or key.startswith((f"{of}/", f"{of}!"))
