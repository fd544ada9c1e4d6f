"""Compares one execution of a random program with its model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from itertools import pairwise
from typing import Any

from again import Epoch, check_again, epochs_of
from bodies import LATE, RUNNING
from families import Family, Member
from homes import Home
from models import Model
from programs import Boom, Child

from kitaru_registry.errors import KitaruNotFinishedError, KitaruTimeoutError, KitaruUserCodeError
from kitaru_registry.executions import reading
from kitaru_registry.executions.journal import Row
from kitaru_registry.journal.entries import Encoded, Kind
from kitaru_runner.values import codec
from kitaru_runner.values.failures import rebuild


class Judge:
    """Compares one execution of a family with its model."""

    def __init__(
        self, home: Home, member: Member, of_child: Any, overridden: Mapping[str, int] | None = None,
        original: Epoch | None = None,
    ) -> None:  # fmt: skip
        self.overridden = overridden or {}
        self.original = original
        self.home = home
        self.member = member
        self.seen = member.seen
        self.rows_before = member.rows_before
        self.rows = member.rows
        self.of_child = of_child
        self.epochs = epochs_of(self.rows, self.seen, self.rows_before)

    def check(self) -> None:
        begins_at = 0
        for epoch in self.epochs:
            self.check_traces(epoch)
            self.check_counts(epoch, begins_at)
            begins_at += len(epoch.written)
        self.check_model()
        self.check_retries()

    def check_retries(self) -> None:
        """A retry has let execute again what it should, and nothing else."""
        executed: dict[tuple[str, int], int] = {}
        for before, after in pairwise(self.epochs):
            executed |= before.executed
            unconsumed = self.model(before, children_may_go_on=True).unconsumed(self.member.so_far)
            model = self.model(after, children_may_go_on=True)
            with suppress(Boom):
                model.run(self.member.so_far)
            reached = {key: not row.may_miss for (kind, key, _), row in model.rows.items() if kind == "c"}
            check_again(before, after, executed, unconsumed=unconsumed, reached=reached)

    def check_traces(self, epoch: Epoch) -> None:
        """Every attempt saw what the ones before it saw, since it was retried last."""
        for earlier, later in pairwise(epoch.seen):
            for name in ("trace", "races"):
                one, other = getattr(earlier, name), getattr(later, name)
                differ = {
                    place: (one[place], other[place])
                    for place in one.keys() & other.keys()
                    if one[place] != other[place]
                }
                assert not differ, f"an attempt saw something else than the one before: {differ}"

    def check_counts(self, epoch: Epoch, begins_at: int) -> None:
        """What is recorded was executed once in the attempt that recorded it, and in none after it.

        Args:
            begins_at: so many rows were recorded before the epoch.
        """
        recorded: set[tuple[str, int]] = set()
        ends = [*epoch.rows_before[1:], begins_at + len(epoch.written)]
        for seen, begins, end in zip(epoch.seen, epoch.rows_before, ends, strict=False):
            new = {(row.key, row.tries or 1) for row in self.rows[begins:end] if row.kind in "ct"}
            assert all(count == 1 for count in seen.executed.values()), seen.executed
            again = recorded & set(seen.executed)
            assert not again, f"executed again: {again}"
            outcomes = {(r.key, r.tries or 1): r for r in epoch.written if r.kind in "ct"}
            missing = {n for n in new - set(seen.executed) if was_called(outcomes[n])}
            assert not missing, f"recorded, and never executed: {missing}"
            recorded |= new

    def check_model(self) -> None:
        found: dict[tuple[str, str, int], Any] = {}
        soft: set[tuple[str, str, int]] = set()
        for row, is_soft in ((current.row, current.soft) for current in self.epochs[-1].rows):
            if row.kind == Kind.ENDED:
                continue
            outcome = self.outcome(row)
            slot = (row.kind, row.key, (row.tries or 1) if row.kind == "t" else 0)
            # Its caller may be cancelled when the outcome is recorded, and has not had its turn: that comes on top.
            assert slot not in found or outcome == ("cancelled",) or slot in soft, f"{slot} twice"
            found[slot] = outcome
            soft = soft | {slot} if is_soft else soft - {slot}
            if row.kind == "w" and name_of(row).startswith(("ask", "wait_any")) and outcome != ("cancelled",):
                self.member.answers.check(row.key, *outcome)
        model = self.model(self.epochs[-1])
        try:
            result: Any = ("completed", model.run(self.member.so_far))
        except Boom as error:
            result = ("failed", error.args)
        unexpected = found.keys() - model.rows.keys() - soft
        assert not unexpected, f"recorded, and not in the model: {unexpected}"
        missing = {slot for slot in model.rows.keys() - found.keys() if not model.rows[slot].may_miss}
        if len(self.epochs) > 1:
            # Of an outcome that a retry left, the tries before it need not count, nor what was said of it.
            kept = {key for kind, key, _ in found if kind == "c"}
            missing = {slot for slot in missing if slot[0] not in "td" or slot[1].removesuffix("!changed") not in kept}
        assert not missing, f"in the model, and not recorded: {missing}"
        for slot, outcome in found.items():
            if slot not in model.rows:
                continue
            expected = model.rows[slot]
            if slot[0] in "ct" and expected.outcome is not None and outcome != ("cancelled",):
                assert outcome == expected.outcome, slot
        assert self.result() == result

    def model(self, epoch: Epoch | None = None, *, children_may_go_on: bool = False) -> Model:
        """Of an epoch's end, by default of the last's."""
        epoch = epoch or self.epochs[-1]
        given = {(c.row.kind, c.row.key, c.row.tries or 1): self.outcome(c.row) for c in epoch.rows}
        return Model(self.member.program, given, self.races(epoch), self.of_child, children_may_go_on, self.overridden)

    def races(self, epoch: Epoch) -> dict[str, Any]:
        """Those of its own, and of the bodies whose outcomes are from before: they were not executed in it."""
        earlier = [self.original] if self.original is not None else []
        earlier += self.epochs[: self.epochs.index(epoch)]
        executed = epoch.executed
        before = {place: order for each in earlier for place, order in each.races.items()}
        kept = {place: order for place, order in before.items() if try_at(place) not in (None, *executed)}
        return kept | epoch.races

    def result(self) -> Any:
        exec_id = self.member.exec_id
        record = reading.get_execution(self.home.database, exec_id)
        if record.status == "completed":
            return "completed", codec.decode(Encoded(*reading.result_bytes(self.home.database, exec_id)))
        error = reading.recorded_error(self.home.database, exec_id)
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
            if isinstance(error, KitaruNotFinishedError):
                return ("failed", RUNNING)
            if isinstance(error, KitaruUserCodeError):
                error = error.__cause__
            assert isinstance(error, Boom), row.error
            return ("failed", error.args)
        if row.value is None:
            return None
        value = codec.decode(Encoded(row.value.codec, row.value.data or b""))
        if row.kind == "w" and not name_of(row).startswith("wait:"):
            said = json.loads(row.metadata or "{}").get("outcome", "answered")
            return (said, value)
        return ("value", value)


def try_at(place: str) -> tuple[str, int] | None:
    """The try of a checkpoint in whose body a place is."""
    key, inside, rest = place.rpartition("/try")
    return (key, int(rest.partition("/")[0])) if inside else None


def judges(
    home: Home, family: Family, overridden: Mapping[str, int] | None = None, original: Epoch | None = None
) -> dict[str, Judge]:
    """Of each member of a family; the overridden values are the root's, as is the original of a replay, at its end."""

    def of_child(exec_id: str, step: Child, so_far: int) -> Any:
        """What becomes of a child, by its own model."""
        member = family.members[exec_id]
        assert (member.program, member.so_far) == (step, so_far), "another child, or another input"
        return Judge(home, member, of_child).model().run(so_far)

    return {
        exec_id: Judge(home, member, of_child, *((overridden, original) if member is family.root else ()))
        for exec_id, member in family.members.items()
    }


def name_of(row: Row) -> str:
    return row.key.rpartition("/")[2]


def cancelled(row: Row) -> bool:
    return row.error is not None and json.loads(row.error)["type"] == "CancelledError"


def was_called(row: Row) -> bool:
    """Not given up or too late before its body began, and not kept from being called by another's failure."""
    if row.error is None:
        return True
    described = json.loads(row.error)
    return described["type"] not in ("CancelledError", "KitaruTimeoutError") and described["checkpoint"] == row.key
