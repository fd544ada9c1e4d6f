"""An execution of a user's flow, and those that it starts, attempt by attempt in this process."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, TypeVar

from kitaru.client import KitaruClient
from kitaru.definition import FlowDefinition, called
from kitaru.source_children import source_execution
from kitaru.testing.answering import Given
from kitaru.testing.clocks import Clock
from kitaru.testing.crashes import Crash
from kitaru.testing.schedules import Schedule, Stuck, World
from kitaru.testing.simulation import Open, Simulation
from kitaru_registry.errors import KitaruContextError, KitaruFencedError
from kitaru_registry.executions import ending, families, queue
from kitaru_registry.executions.attempt_journal import RegistryJournal
from kitaru_registry.executions.creating import NewExecution
from kitaru_registry.executions.queue import Claim
from kitaru_registry.journal.entries import ChildRequest, WaitRequest
from kitaru_registry.models import ExecutionId
from kitaru_registry.records.states import ENDED
from kitaru_runner.engine.core.attempt import Attempt
from kitaru_runner.host.children import invoked
from kitaru_runner.values.failures import ExecutionCancelled

T = TypeVar("T")


class FirstOf(Random):
    """Takes the first of several, always."""

    def choice(self, seq: Any) -> Any:
        return seq[0]


class InOrder(Schedule):
    """Each thread goes on as long as it can, answers come when nobody can, and time passes when nothing else helps."""

    def __init__(self, random: Random, world: World) -> None:
        super().__init__(random, world)
        self._stays = 1.0
        self._move_share = self._time_share = 0.0


@dataclass
class Family:
    """What a tested execution and the ones that it starts have in common."""

    client: KitaruClient
    clock: Clock
    answers: Given
    seed: int | None
    code: str
    """Within which `cache=True` looks up."""
    calls: Counter[str] = field(default_factory=Counter)
    members: dict[ExecutionId, FlowSimulation] = field(default_factory=dict)
    error: BaseException | None = None

    @property
    def random(self) -> Random:
        return FirstOf(0) if self.seed is None else Random(f"kitaru {self.seed}")

    def fail(self, error: BaseException) -> None:
        """End everything: the test is wrong, or the flow is."""
        self.error = self.error or error
        for member in self.members.values():
            if member.schedule is not None:
                member.schedule.end()

    def check(self) -> None:
        if self.error is not None:
            raise self.error


@dataclass(kw_only=True)
class FlowSimulation(Simulation):
    """
    Args:
        planned: where each attempt crashes; None: it does not.
    """

    family: Family
    flow: FlowDefinition
    planned: Sequence[Crash | None] = ()
    parent: FlowSimulation | None = None
    started: list[FlowSimulation] = field(default_factory=list)
    schedule: Schedule | None = None
    running: Attempt | None = None
    asked: dict[str, WaitRequest] = field(default_factory=dict)

    # An attempt

    def attempt(self) -> None:
        ending.end_late(self.database)
        if self.status in ENDED:
            return
        try:
            super().attempt()
        except (ExecutionCancelled, KitaruFencedError):
            self._settle()
        except Stuck:
            self.family.check()
            raise
        finally:
            self.running = self.schedule = None
        self.family.check()

    def _settle(self) -> None:
        """An attempt was told to end: what asked for that decides how the execution stands."""
        row = queue.candidate(self.database, self.exec_id).row
        if queue.standing(self.database, row)[1]:
            ending.cancel_owned(self.database, row, self.attempts[-1].number)

    def _stays(self) -> bool:
        # A child's turn ends when it parks, so that its parent's comes.
        return self.parent is None and (self.family.seed is None or super()._stays())

    def _open_journal(self, claim: Claim, *, stays: bool) -> RegistryJournal:
        return RegistryJournal(
            self.database, self.writer, claim, stays=stays, code=self.family.code, children=OwnChildren(self)
        )

    def _schedule(self) -> Schedule:
        kind = InOrder if self.family.seed is None else Schedule
        self.schedule = kind(self.random, self)
        return self.schedule

    def _next_crash(self) -> Crash | None:
        if len(self.attempts) < len(self.planned):
            return self.planned[len(self.attempts)]
        return super()._next_crash()

    def _meanwhile(self) -> None:
        super()._meanwhile()
        self.family.check()

    def finish(self) -> None:
        """Until this execution, and all that it started, have ended."""
        self.run()
        while any(child.is_open for child in self.descendants()):
            self._meanwhile()

    @property
    def is_open(self) -> bool:
        return self.status not in ENDED

    def descendants(self) -> Iterator[FlowSimulation]:
        for child in self.started:
            yield child
            yield from child.descendants()

    # World

    def began(self, name: str) -> None:
        self.family.calls[name] += 1

    def opened(self, wait: WaitRequest) -> None:
        super().opened(wait)
        if wait.kind == "input":
            self.asked[wait.key] = wait
            self.family.answers.note(wait)

    def _answerable(self) -> list[tuple[Open, Any]]:
        return [(wait, None) for key, wait in self._open.items() if self.family.answers.is_given(self.asked[key])]

    def give(self, key: str, value: Any) -> None:
        try:
            value = self.family.answers.value(self.asked[key])
        except Exception as error:
            self.family.fail(error)
        else:
            super().give(key, value)

    def moves(self) -> list[Callable[[], None]]:
        own = super().moves()
        return own + [move for child in self.started for move in child.moves_between()]

    def moves_between(self) -> list[Callable[[], None]]:
        """What may happen to a child whose turn it is not."""
        if self.schedule is not None:
            return []
        status = self.status
        if status in ("pending", "running"):
            return [self._take_turn]
        found = self.moves() if status == "waiting" else [m for c in self.started for m in c.moves_between()]
        return [partial(self._tell_parents_after, move) for move in found]

    def _take_turn(self) -> None:
        try:
            # On a thread of its own: this one may have a running loop.
            in_thread(self.attempt, name=f"kitaru-{self.flow.name}")
        except BaseException as error:
            self.family.fail(error)
        self._tell_parents_after(lambda: None)

    def _tell_parents_after(self, move: Callable[[], None]) -> None:
        move()
        member = self.parent
        while member is not None:
            member._unheard = True
            member = member.parent

    def move_clock(self, to_us: int) -> bool:
        """An answer that a test gives comes in time."""
        for member in self.family.members.values():
            for wait, value in member._answerable():
                due_us = member.asked[wait.key].deadline_us
                if due_us is not None and due_us <= to_us:
                    member._answering((wait, value))()
                    return True
        fired = super().move_clock(to_us)
        late = [member.end_late() for member in self.family.members.values()]
        return fired or any(late)

    def end_late(self) -> bool:
        """End the attempt that is under way if the execution's `finish_timeout` is over."""
        journal, attempt = self._journal, self.running
        if journal is None or attempt is None or attempt.is_halted or not journal.beat().is_late:
            return False
        ending.end_attempt(self.database, journal.row, journal.attempt, reason="finish_timeout", counts=False)
        attempt.cancel()
        return True


class OwnChildren:
    """Child executions, in the test's own process (attempt_journal.Children)."""

    def __init__(self, parent: FlowSimulation) -> None:
        self._parent = parent

    def prepare(self, parent: Claim, request: ChildRequest) -> NewExecution:
        """See attempt_journal.Children."""
        client = self._parent.family.client
        if request.entrypoint is None:
            return invoked(client.database, parent, request)
        return source_execution(
            client, flow=request.flow, inputs=request.inputs, source=None, options=request.options or {},
            actor=families.actor_of(client.database, parent.row), project=parent.project,
            parent=families.Parent(parent.row, request.key),
        )  # fmt: skip

    def begin(self, exec_id: ExecutionId) -> None:
        """Let it have turns, from now on."""
        flow, family = called.get(), self._parent.family
        if exec_id in family.members:
            return
        if flow is None:
            raise KitaruContextError(
                f"the child execution {exec_id} is of a deployed version, which needs a runner",
                hint="start it by .run(...) here, or test it in testing.home() with a runner",
            )
        self._parent.started.append(simulation_of(family, flow, exec_id, parent=self._parent))


def simulation_of(
    family: Family, flow: FlowDefinition, exec_id: ExecutionId, *, parent: FlowSimulation | None = None
) -> FlowSimulation:
    random = family.random if parent is None else parent.random
    made = FlowSimulation(
        family.client.database, family.client.writer, exec_id, flow.function, family.clock, random, Nobody(),
        before=lambda attempt: setattr(made, "running", attempt), family=family, flow=flow, parent=parent,
    )  # fmt: skip
    family.members[exec_id] = made
    return made


class Nobody:
    """Answers nothing: the family does."""

    def answer(self, name: str, key: str) -> tuple[Any] | None:
        return None


def in_thread(call: Callable[[], T], *, name: str, seconds: float | None = None) -> T:
    """What the call returns or raises, in a thread of its own.

    Raises:
        TimeoutError: it has not ended after so many seconds; the thread is left behind.
    """
    ended: list[Callable[[], T]] = []

    def body() -> None:
        try:
            value = call()
        except BaseException as error:
            failure = error
            ended.append(lambda: throw(failure))
        else:
            ended.append(lambda: value)

    thread = threading.Thread(target=body, name=name, daemon=True)
    thread.start()
    thread.join(seconds)
    if not ended:
        raise TimeoutError
    return ended[0]()


def throw(error: BaseException) -> Any:
    raise error
