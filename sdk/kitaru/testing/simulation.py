"""One execution whose every turn follows from a seed: its threads, its answers, its times and its crashes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, Protocol

from kitaru.testing.clocks import Clock
from kitaru.testing.crashes import Crash, EndingJournal
from kitaru.testing.schedules import Schedule, Stuck
from kitaru_registry.database.opening import Database
from kitaru_registry.errors import KitaruConflictError, KitaruNotFoundError
from kitaru_registry.executions import ending, queue, reading, waits
from kitaru_registry.executions.attempt_journal import Children, RegistryJournal
from kitaru_registry.executions.journal import JournalWriter
from kitaru_registry.journal.entries import Answer, WaitRequest
from kitaru_registry.models import ExecutionId
from kitaru_registry.records.states import ENDED
from kitaru_runner.engine.body.body import run_body
from kitaru_runner.engine.core.attempt import Attempt
from kitaru_runner.values import codec
from kitaru_runner.values.failures import ProcessEnded

OWNER = queue.Owner("test", os.getpid(), "here")
ATTEMPTS = 1000


class Answerer(Protocol):
    """Who answers the waits of an execution."""

    def answer(self, name: str, key: str) -> tuple[Any] | None:
        """The answer, in a tuple; None: nobody answers it."""


@dataclass
class Open:
    """A wait that an attempt has opened."""

    key: str
    name: str


@dataclass
class Attempted:
    """What one attempt did."""

    number: int
    crashed: bool
    writes: int


@dataclass
class Simulation:
    """Runs an execution from attempt to attempt until it has ended.

    Args:
        body: the flow's function.
        crashes: how many attempts end by a crash, at most.
        longest: a crash comes at a write up to this.
        before: called with the engine before each attempt's body.
    """

    database: Database
    writer: JournalWriter
    exec_id: ExecutionId
    body: Callable[..., Any]
    clock: Clock
    random: Random
    answerer: Answerer
    crashes: int = 0
    longest: int = 12
    before: Callable[[Attempt], None] = lambda attempt: None
    children: Children | None = None
    """Who makes and begins its child executions."""
    early: list[tuple[str, Any]] = field(default_factory=list)
    """Names and answers that may come before anybody asks."""
    attempts: list[Attempted] = field(default_factory=list)
    _open: dict[str, Open] = field(default_factory=dict)
    _journal: RegistryJournal | None = None
    _unheard: bool = False

    def run(self) -> str:
        """Until the execution has ended; its status."""
        while (status := self.status) not in ENDED:
            if len(self.attempts) >= ATTEMPTS:
                raise Stuck(f"{self.exec_id} has not ended after {ATTEMPTS} attempts")
            if status == "waiting":
                self._meanwhile()
            else:
                self.attempt()
        return status

    @property
    def status(self) -> str:
        return reading.get_status(self.database, self.exec_id)

    def attempt(self) -> None:
        """Run the next attempt to its end: the body's, its parking or its crash."""
        queue.make_due(self.database, self.exec_id)
        claim = queue.claim(self.database, queue.candidate(self.database, self.exec_id), OWNER)
        if claim is None:
            return
        stays = self._stays()
        journal = self._open_journal(claim, stays=stays)
        schedule = self._schedule()
        ending = WatchedJournal(journal, self, crash=self._next_crash(), stays=stays, at_end=schedule.end)
        opening = journal.open(entrypoint="flows.py:flow")
        attempt = Attempt(ending, opening, pace=schedule)
        journal.listener = attempt.parking
        self._journal = journal
        self.before(attempt)
        inputs = codec.decode(opening.inputs)
        try:
            schedule.run(lambda: run_body(attempt, self.body, inputs))
        except ProcessEnded:
            pass
        finally:
            self._journal = None
            self.attempts.append(Attempted(claim.attempt, ending.crashed, ending.writes))

    def _stays(self) -> bool:
        """Whether the next attempt's process stays when it parks."""
        return self.random.random() < 0.5

    def _open_journal(self, claim: queue.Claim, *, stays: bool) -> RegistryJournal:
        return RegistryJournal(self.database, self.writer, claim, stays=stays, children=self.children)

    def _schedule(self) -> Schedule:
        return Schedule(self.random, self)

    def _next_crash(self) -> Crash | None:
        if not self.crashes:
            return None
        self.crashes -= 1
        write = self.random.randint(1, self.longest)
        return Crash(write, after=self.random.random() < 0.5, every_call=self.random.random() < 0.5)

    def _meanwhile(self) -> None:
        """Nobody executes it: an answer comes, or a time."""
        moves = self.moves()
        due = self.next_due_us()
        if due is not None and (not moves or self.random.random() < 0.2):
            self.move_clock(due)
        elif moves:
            self.random.choice(moves)()
        else:
            raise Stuck(f"nobody answers {', '.join(self._open)}")

    # World

    def began(self, name: str) -> None:
        """A try of a checkpoint of that name begins."""

    def opened(self, wait: WaitRequest) -> None:
        if wait.kind == "input":
            self._open.setdefault(wait.key, Open(wait.key, wait.name))

    def moves(self) -> list[Callable[[], None]]:
        found: list[Callable[[], None]] = [self._answering(wait) for wait in self._answerable()]
        found += [partial(self._answer_early, name, value) for name, value in self.early]
        if self._unheard and self._journal is not None:
            found.append(self._hear)
        return found

    def _answer_early(self, name: str, value: Any) -> None:
        self.early.remove((name, value))
        try:
            waits.answer_early(self.database, self.exec_id, name, value, actor="test", door="test")
        except KitaruConflictError:
            return  # it is asked by now
        self._unheard = True

    def _answerable(self) -> list[tuple[Open, Any]]:
        found = []
        for wait in self._open.values():
            given = self.answerer.answer(wait.name, wait.key)
            if given is not None:
                found.append((wait, given[0]))
        return found

    def _answering(self, answered: tuple[Open, Any]) -> Callable[[], None]:
        wait, value = answered

        def answer() -> None:
            del self._open[wait.key]
            try:
                if waits.find_wait(self.database, self.exec_id, wait.key) is None:
                    return
                self.give(wait.key, value)
            except (KitaruConflictError, KitaruNotFoundError):
                return  # it is over, or its opening was not recorded
            self._unheard = True

        return answer

    def give(self, key: str, value: Any) -> None:
        waits.answer(self.database, self.exec_id, key, value, actor="test", door="test")

    def _hear(self) -> None:
        """What the heartbeat's thread does again and again."""
        self._unheard = False
        assert self._journal is not None
        waits.fire_due(self.database)
        self._journal.poll_answers()

    def next_due_us(self) -> int | None:
        with self.database.read() as connection:
            return waits.next_deadline_us(connection)

    def move_clock(self, to_us: int) -> bool:
        self.clock.move_to(to_us)
        fired = waits.fire_due(self.database) + ending.end_late(self.database)
        self._unheard |= fired > 0
        return fired > 0


class WatchedJournal(EndingJournal):
    """Tells of the waits that are opened, and of the tries that begin."""

    def __init__(self, journal: RegistryJournal, simulation: Simulation, **options: Any) -> None:
        super().__init__(journal, **options)
        self._simulation = simulation

    def open_wait(self, wait: WaitRequest) -> Answer | None:
        self._simulation.opened(wait)
        return super().open_wait(wait)

    def started(self, key: str, name: str, tries: int, at_us: int) -> None:
        super().started(key, name, tries, at_us)
        self._simulation.began(name)


@dataclass(frozen=True)
class Given:
    """Answers by the wait's name; a function is called with the wait's key."""

    answers: Mapping[str, Any]

    def answer(self, name: str, key: str) -> tuple[Any] | None:
        if name not in self.answers:
            return None
        value = self.answers[name]
        return (value(key) if callable(value) else value,)
