"""What a run of a random program must have recorded and given: by plain Python, without an engine and without crashes.

What no program decides is taken from the run itself: answers, noted values, and who was first in a race.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from bodies import CHANGED, DOWN, LATE, RUNNING, run_plain
from programs import (
    Boom,
    Call,
    Child,
    Fan,
    InTime,
    Keep,
    Loop,
    Note,
    Place,
    Pool,
    Program,
    Rest,
    Sleep,
    Step,
    Tasks,
    Thread,
    Threads,
    Wait,
    WaitAny,
    Walk,
    mix,
)


def raised_with(error: BaseException | None) -> Iterator[str]:
    """The keys of the checkpoints whose failures this one is, or was raised beside."""
    while error is not None:
        if isinstance(error, Boom) and error.call is not None:
            yield error.call
        error = error.__context__


class Unknown(Exception):
    """A line of execution that was cut off here: nothing was recorded of what it would have got."""


@dataclass
class Scope:
    """Keys by scopes, counted as the documentation says."""

    prefix: str = ""
    ordinals: dict[str, int] = field(default_factory=dict)
    may_be_cut: bool = False
    """Whether this line of execution may have been cut off anywhere."""
    in_checkpoint: bool = False
    on_loop: bool = False

    def key(self, name: str) -> str:
        return self.prefix + self.numbered(name)

    def numbered(self, name: str) -> str:
        ordinal = self.ordinals[name] = self.ordinals.get(name, 0) + 1
        return name if ordinal == 1 else f"{name}#{ordinal}"

    def open(self, kind: str, *, may_be_cut: bool = False) -> Scope:
        number = self.ordinals[f"[{kind}"] = self.ordinals.get(f"[{kind}", -1) + 1
        return Scope(
            f"{self.prefix}{kind}[{number}]/",
            may_be_cut=self.may_be_cut or may_be_cut,
            in_checkpoint=self.in_checkpoint,
            on_loop=self.on_loop,
        )

    def inside(self, key: str, tried: int) -> Scope:
        return Scope(f"{key}/try{tried}/", may_be_cut=self.may_be_cut, in_checkpoint=True)


@dataclass(frozen=True)
class Expected:
    """One row: its outcome, and whether it may be missing because its line was cut off."""

    outcome: Any
    may_miss: bool


@dataclass
class Model(Walk):
    """
    Args:
        recorded: of the run: what was recorded by kind, key and number of the try.
        races: of the run, by place.
        of_child: what becomes of the child execution of that id, by its own model: its value, or Boom.
    """

    program: Program | Child
    recorded: Mapping[tuple[str, str, int], Any]
    races: Mapping[str, Any]
    of_child: Callable[[str, Child, int], Any]
    children_may_go_on: bool = False
    """Whether a child may have ended in another way since, because it was retried."""
    overridden: Mapping[str, int] = field(default_factory=dict)
    """Values that a replay was given, by the checkpoint's key."""
    rows: dict[tuple[str, str, int], Expected] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)
    """Keys of the failures in futures at which nobody looks."""

    def called(self, so_far: int) -> set[str]:
        """The keys of the checkpoints that the flow calls for certain."""
        with suppress(Boom):
            self.run(so_far)
        return {key for (kind, key, _), row in self.rows.items() if kind == "c" and not row.may_miss}

    def unconsumed(self, so_far: int) -> set[str]:
        """The keys of the failures that nothing in the flow has consumed, when one ends it."""
        try:
            self.run(so_far)
        except Boom as error:
            return self.left | set(raised_with(error))
        raise AssertionError("it was retried, and has not failed")

    def run(self, so_far: int = 0) -> Any:
        """The flow's result, or Boom."""
        return run_plain(self.block(Place("", so_far, Scope(on_loop=self.program.is_async)), self.program.steps))

    def row(self, scope: Scope, kind: str, key: str, outcome: Any, tried: int = 0) -> None:
        assert (kind, key, tried) not in self.rows
        self.rows[kind, key, tried] = Expected(outcome, scope.may_be_cut)

    # Checkpoints

    async def call(self, place: Place, step: Call) -> object:
        return self.checkpoint(place.scope, step, place.so_far)

    def checkpoint(self, scope: Scope, step: Call, so_far: int) -> int:
        key = scope.key(step.name)
        if key in self.overridden:
            self.row(scope, "c", key, ("value", self.overridden[key]))
            return self.overridden[key]
        if step.changes:
            self.changing(scope, step, key, so_far)
        for tried in range(1, step.retries + 2):
            inside = scope.inside(key, tried)
            kind = "t" if tried <= step.retries else "c"
            try:
                if step.timeout_seconds is not None and self.was_late(key, tried):
                    raise Boom(*LATE)
                value = self.execute(step, so_far, inside, key, tried)
            except Boom as error:
                self.row(scope, kind, key, ("failed", error.args), tried if kind == "t" else 0)
                failure = error
                failure.call = key
            else:
                self.row(scope, "c", key, ("value", value))
                return value
        raise failure

    def changing(self, scope: Scope, step: Call, key: str, so_far: int) -> NoReturn:
        """Its first try is its last, whatever comes of that, which is on record beside what was changed."""
        try:
            outcome: tuple[str, Any] = ("value", self.execute(step, so_far, scope.inside(key, 1), key, 1))
        except Boom as error:
            outcome = ("failed", error.args)
        self.row(scope, "c", key, outcome)
        self.row(scope, "d", f"{key}!changed", None)
        failure = Boom(*CHANGED)
        failure.call = key
        raise failure

    def was_late(self, key: str, tried: int) -> bool:
        return self.failed_with(key, tried, LATE)

    def failed_with(self, key: str, tried: int, args: tuple[object, ...]) -> bool:
        outcomes = (self.recorded.get(("t", key, tried)), self.recorded.get(("c", key, tried)))
        return ("failed", args) in outcomes

    def execute(self, step: Call, so_far: int, inside: Scope, key: str, tried: int) -> int:
        inner = run_plain(self.block(Place(inside.prefix, so_far, inside), step.inner)) if step.inner else 0
        if self.failed_with(key, tried, (DOWN, step.number)):
            raise Boom(DOWN, step.number)
        if tried <= step.fails:
            raise Boom("try", step.number, tried)
        return mix(step.number, so_far, inner)

    # Side by side

    async def fan(self, place: Place, step: Fan) -> object:
        scope: Scope = place.scope
        begun_at = place.so_far
        if step.how == "map":
            name = scope.numbered("map")
            scopes = [
                Scope(f"{scope.prefix}{name}[{n}]/", may_be_cut=scope.may_be_cut, in_checkpoint=scope.in_checkpoint)
                for n in range(len(step.calls))
            ]
        else:
            scopes = [scope.open("submit") for _ in step.calls]
        try:
            await self.block(place, step.meanwhile)
        except BaseException:
            self._outcomes(step, begun_at, scopes, awaited=False)
            raise
        outcomes = self._outcomes(step, begun_at, scopes, awaited=step.join != "never")
        if step.join == "never":
            return None
        if step.join == "all":
            return outcomes
        if scope.on_loop and not scope.in_checkpoint:
            for _ in outcomes:
                scope.open("task")
        order = self.races.get(f"{place.path}/{step.number}")
        if order is None:
            raise Unknown
        assert sorted(order) == list(range(len(outcomes)))
        return [outcomes[number] for number in order]

    def _outcomes(self, step: Fan, so_far: int, scopes: list[Scope], *, awaited: bool) -> list[Any]:
        """Nobody waits for those that are not awaited: the flow may end before they do."""
        outcomes: list[Any] = []
        before: Any = None
        for number, (call, scope) in enumerate(zip(step.calls, scopes, strict=True)):
            scope.may_be_cut |= not awaited
            if step.how == "submit" and step.chained and before is not None:
                # The failure of the one before, with which this is not called.
                outcomes.append(before)
                self.row(scope, "c", scope.key(call.name), ("failed", before))
                continue
            try:
                outcomes.append(self.checkpoint(scope, call, mix(so_far, number)))
            except Boom as error:
                outcomes.append(error.args)
                before = error.args
                if not awaited:
                    self.left.add(str(error.call))
        return outcomes

    async def tasks(self, place: Place, step: Tasks) -> object:
        outcomes = []
        cut = step.how in ("group", "race")
        for number in range(len(step.blocks)):
            scope = place.scope.open("task", may_be_cut=cut)
            inside = Place(f"{place.path}/{step.number}[{number}]", place.so_far, scope)
            try:
                outcomes.append(run_plain(self.block(inside, step.blocks[number])))
            except Boom as error:
                outcomes.append(error)
            except Unknown as error:
                outcomes.append(error)
        if step.how == "gather":
            for outcome in outcomes:
                if isinstance(outcome, Unknown):
                    raise outcome
            return [o.args if isinstance(o, Boom) else o for o in outcomes]
        if step.how == "group":
            return self._group(place, step, outcomes)
        order = self.races.get(f"{place.path}/{step.number}")
        if order is None:
            raise Unknown
        assert len(set(order)) == len(order)
        assert step.how == "race" or len(order) == len(outcomes)
        return [self._of(outcomes[number]) for number in order]

    def _of(self, outcome: Any) -> object:
        if isinstance(outcome, Unknown):
            raise outcome
        return outcome.args if isinstance(outcome, Boom) else outcome

    def _group(self, place: Place, step: Tasks, outcomes: list[Any]) -> object:
        failed = self.races.get(f"{place.path}/{step.number}")
        known = [outcome.args for outcome in outcomes if isinstance(outcome, Boom)]
        if failed is None:
            for outcome in outcomes:
                if isinstance(outcome, Unknown):
                    raise outcome
            if known and place.scope.may_be_cut:
                raise Unknown
            assert known == [], "a group failed, and nobody heard"
            return outcomes
        assert failed
        assert all(args in known for args in failed)
        return failed

    async def pool(self, place: Place, step: Pool) -> object:
        taken: dict[int, list[tuple[int, int]]] = {worker: [] for worker in range(step.workers)}
        for number in range(len(step.blocks)):
            worker, nth = self.races.get(f"{place.path}/{step.number}[{number}]", (None, 0))
            if worker is not None:
                taken[worker].append((nth, number))
        found: dict[int, object] = {}
        for worker in range(step.workers):
            scope = place.scope.open("task")
            for _, number in sorted(taken[worker]):
                inside = Place(f"{place.path}/{step.number}[{number}]", place.so_far, scope)
                try:
                    found[number] = run_plain(self.block(inside, step.blocks[number]))
                except Boom as error:
                    found[number] = error.args
                except Unknown:
                    break
        if len(found) < len(step.blocks):
            assert place.scope.may_be_cut, "not everything in the queue was taken"
            raise Unknown
        return [found[number] for number in range(len(step.blocks))]

    async def rest(self, place: Place, step: Rest) -> None:
        """It leaves no value."""

    async def thread(self, place: Place, step: Thread) -> object:
        return await self.block(Place(f"{place.path}/{step.number}", place.so_far, place.scope), step.block)

    async def threads(self, place: Place, step: Threads) -> object:
        outcomes: list[Any] = []
        for number, block in enumerate(step.blocks):
            scope = place.scope.open("thread:keep" if step.how == "threads" else "thread:line")
            try:
                inside = Place(f"{place.path}/{step.number}[{number}]", place.so_far, scope)
                outcomes.append(run_plain(self.block(inside, block)))
            except (Boom, Unknown) as error:
                if step.raises and step.how == "pool" and any(isinstance(before, Boom) for before in outcomes):
                    # The first one is raised, and the others are not looked at.
                    self.left |= set(raised_with(error))
                outcomes.append(error)
        for outcome in outcomes:
            if isinstance(outcome, Unknown) or (isinstance(outcome, Boom) and step.raises):
                raise outcome
        return [self._of(outcome) for outcome in outcomes]

    async def loop(self, place: Place, step: Loop) -> object:
        # What it is run for goes on in the flow's own scope.
        scope = replace(place.scope, on_loop=True)
        return await self.block(Place(f"{place.path}/{step.number}", place.so_far, scope), step.block)

    # Child flows

    async def child(self, place: Place, step: Child) -> object:
        scope, begun_at = place.scope, place.so_far
        _, exec_id = self.given(scope, "x", scope.key(step.name))
        outcome = () if self.children_may_go_on else self._end_of_child(exec_id, step, begun_at)
        if step.take == "never":
            return None
        found: list[object] = []
        if step.take == "at_once":
            found.append(self._of_child(scope, "n", f"get:{step.name}", outcome, may_run=True)[1])
        await self.block(place, step.meanwhile)
        kind, value = self._of_child(scope, "w", f"wait:{step.name}", outcome, may_run=step.timeout_seconds is not None)
        if value == RUNNING:
            return RUNNING
        if kind == "failed":
            raise Boom(*value)
        found.append(value)
        if step.take == "get":
            found.append(self._of_child(scope, "n", f"get:{step.name}", outcome)[1])
            self._of_child(scope, "n", f"status:{step.name}", ("value", "completed"))
            found += ["completed", self._of_child(scope, "w", f"wait:{step.name}", outcome)[1]]
        return found

    def _end_of_child(self, exec_id: str, step: Child, so_far: int) -> tuple[str, Any]:
        try:
            return "value", self.of_child(exec_id, step, so_far)
        except Boom as error:
            return "failed", error.args

    def _of_child(
        self, scope: Scope, kind: str, name: str, outcome: tuple[Any, ...], *, may_run: bool = False
    ) -> tuple[str, Any]:
        """What a parent was told of its child, which is how that ends, or that it runs."""
        key = scope.key(name)
        found: tuple[str, Any] = self.given(scope, kind, key)
        may_differ = self.children_may_go_on or (may_run and found == ("failed", RUNNING))
        assert may_differ or found == outcome, (key, found, outcome)
        return found

    async def intime(self, place: Place, step: InTime) -> object:
        late = self.races.get(f"{place.path}/{step.number}")
        scope = place.scope.open("task", may_be_cut=bool(late))
        if late is None:
            # It failed before the time was over, or its line was cut off.
            return self.checkpoint(scope, step.call, place.so_far)
        if not late:
            return self.checkpoint(scope, step.call, place.so_far)
        key = scope.key(step.call.name)
        # That its caller gave up is recorded too.
        self.rows["c", key, 0] = Expected(None, place.scope.may_be_cut)
        for tried in range(1, step.call.retries + 1):
            down = (DOWN, step.call.number)
            args = down if self.failed_with(key, tried, down) else ("try", step.call.number, tried)
            self.rows["t", key, tried] = Expected(("failed", args), True)
        return "late"

    # In the flow's body

    def given(self, scope: Scope, kind: str, key: str) -> Any:
        found = self.recorded.get((kind, key, 1))
        if found is None:
            if scope.may_be_cut:
                raise Unknown
            raise AssertionError(f"{key} is not recorded")
        self.row(scope, kind, key, found)
        if found == ("cancelled",):
            assert scope.may_be_cut, key
            raise Unknown
        return found

    async def note(self, place: Place, step: Note) -> object:
        _, value = self.given(place.scope, "n", place.scope.key(step.what))
        return str(value)

    async def sleep(self, place: Place, step: Sleep) -> object:
        self.given(place.scope, "w", place.scope.key("sleep"))
        return None

    async def wait(self, place: Place, step: Wait) -> object:
        outcome, value = self.given(place.scope, "w", place.scope.key(step.name))
        if outcome == "expired":
            assert step.timeout_seconds is not None
            return "default" if step.has_default else "expired"
        return "aborted" if outcome == "aborted" else value

    async def waitany(self, place: Place, step: WaitAny) -> object:
        outcome, value = self.given(place.scope, "w", place.scope.key("wait_any"))
        if outcome == "expired":
            return None
        if outcome == "aborted":
            return "aborted"
        assert value["name"] in step.names
        return (value["name"], value["value"])

    async def keep(self, place: Place, step: Keep) -> object:
        kind, name = ("s", f"save:kept{step.number}") if step.what == "save" else ("l", "log")
        self.row(place.scope, kind, place.scope.key(name), None)
        return None

    async def step(self, place: Place, step: Step) -> None:
        await super().step(place, step)
