"""A simulated execution with its child executions: whose turn it is follows from the seed too."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from bodies import Body, Seen
from homes import Answers, Home
from programs import Child, Program, walked

from kitaru.testing.clocks import Clock
from kitaru.testing.schedules import Stuck
from kitaru.testing.simulation import Simulation
from kitaru_registry.executions import ending, families, queue, reading, waits
from kitaru_registry.executions.creating import NewExecution
from kitaru_registry.executions.journal import Row
from kitaru_registry.journal.entries import ChildRequest
from kitaru_registry.models import ExecutionId
from kitaru_registry.records.states import ENDED
from kitaru_runner.engine.core.attempt import Attempt
from kitaru_runner.engine.core.calls import current, scopes

TURNS = 3000


class Member(Simulation):
    """One execution of a family, and what was seen of it. Its waits are aborted now and then."""

    def __init__(
        self, family: Family, exec_id: ExecutionId, program: Program | Child, so_far: int, *, parent: str | None = None
    ) -> None:
        self.family = family
        self.parent = parent
        self.program = program
        self.so_far = so_far
        self.body_of_program = Body(program, family.outage.meets)
        self.seen: list[Seen] = []
        self.rows_before: list[int] = []
        self.answers = Answers(f"{family.seed} {program_number(program)}", program)
        super().__init__(
            family.home.database,
            family.home.writer,
            exec_id,
            self.body_of_program.flow(),
            family.clock,
            family.random,
            self.answers,
            crashes=family.random.choice((0, 1, 2, 4)),
            longest=family.random.choice((3, 6, 12)),
            before=self._before,
            early=list(self.answers.early),
            children=family,
        )

    def _before(self, attempt: Attempt) -> None:
        self.body_of_program.seen = Seen()
        self.seen.append(self.body_of_program.seen)
        self.rows_before.append(len(self.rows))

    @property
    def rows(self) -> list[Row]:
        return self.family.home.rows(self.exec_id)

    def give(self, key: str, value: Any) -> None:
        if self.random.random() < 0.05:
            waits.abort(self.database, self.exec_id, key, actor="test", door="test")
        else:
            super().give(key, value)

    def moves(self) -> list[Callable[[], None]]:
        return self.family.moves()

    def own_moves(self) -> list[Callable[[], None]]:
        return super().moves()

    def move_clock(self, to_us: int) -> bool:
        moved = super().move_clock(to_us)
        self.family.tell()
        return moved

    def _hear(self) -> None:
        if waits.fire_due(self.database):
            self.family.tell()
        super()._hear()

    def tell(self) -> None:
        """Something has changed that its process may wait for."""
        self._unheard = self._journal is not None


class Family:
    """Runs an execution, and those that it starts, until all have ended. One may have attempts while another has."""

    def __init__(
        self, home: Home, seed: int, program: Program, random: Random, clock: Clock, exec_id: ExecutionId | None = None
    ) -> None:  # fmt: skip
        self.home = home
        self.seed = seed
        self.random = random
        self.clock = clock
        self.members: dict[str, Member] = {}
        self._children = {step.number: step for step in walked(program.steps) if isinstance(step, Child)}
        self._active: list[Member] = []
        self.outage = Outage(seed)
        self._raised: list[BaseException] = []
        """By attempts beside another's, whose flow must not get it."""
        exec_id = exec_id or home.new({"number": 0, "so_far": 0}, retries=self.outage.retries)
        self.root = self.members[exec_id] = Member(self, exec_id, program, 0)

    def run(self) -> None:
        for _ in range(TURNS):
            if self._raised:
                raise self._raised[0]
            if not self._open() and not self._retry():
                return
            moves = self.moves()
            attempts = self._attempts()
            if attempts and (not moves or self.random.random() < 0.8):
                self.random.choice(attempts)()
            elif not moves or self.random.random() < 0.2:
                self._let_time_pass(moves)
            else:
                self.random.choice(moves)()
        raise Stuck(f"a family has not ended after {TURNS} turns: {self._open()}")

    def _retry(self) -> bool:
        """By hand, what has failed: mostly when the outage is over, and seldom within it."""
        if not self.outage.retry(failed=self.root.status == "failed"):
            return False
        ending.retry(self.home.database, self.root.exec_id, actor="test")
        for member in self.members.values():
            member.crashes += self.outage.random.choice((0, 0, 1, 2))
        return True

    def _let_time_pass(self, moves: list[Callable[[], None]]) -> None:
        due = self.root.next_due_us()
        if due is not None:
            self.root.move_clock(due)
        elif not moves:
            raise Stuck(f"nothing can happen any more: {self._open()}")

    def _open(self) -> dict[str, str]:
        """Id to status of those that have not ended."""
        found = self.home.statuses(list(self.members))
        return {exec_id: status for exec_id, status in found.items() if status not in ENDED}

    def moves(self) -> list[Callable[[], None]]:
        found = [move for member in self.members.values() for move in member.own_moves()]
        return found + self._attempts() if self._active else found

    def tell(self) -> None:
        for member in self._active:
            member.tell()

    def _attempts(self) -> list[Callable[[], None]]:
        """The attempts that may begin now: beside another of the family, unless that is a child which may have to end
        first."""
        if len(self.members) == 1 and self._active:
            return []
        below = {exec_id for member in self._active for exec_id in self._line_of(member.exec_id)}
        return [
            partial(self._attempt, self.members[exec_id])
            for exec_id, status in self._open().items()
            if status != "waiting" and exec_id not in below
        ]

    def _line_of(self, exec_id: str) -> set[str]:
        """An execution, with its parent and so on."""
        found = {exec_id}
        while (parent := self.members[exec_id].parent) is not None:
            exec_id = parent
            found.add(exec_id)
        return found

    def _attempt(self, member: Member) -> None:
        beside = bool(self._active)
        self._active.append(member)
        try:
            if beside:
                self._raised += in_a_thread(member.attempt)
            else:
                member.attempt()
        finally:
            self._active.remove(member)
            self.tell()

    # Children (attempt_journal.Children)

    def prepare(self, parent: queue.Claim, request: ChildRequest) -> NewExecution:
        # A deployed version too is made of the program.
        return families.of_same_snapshot(
            self.home.database, families.Parent(parent.row, request.key), flow=request.flow, entrypoint="",
            codec=request.inputs.codec, data=request.inputs.data, options=request.options or {},
        )  # fmt: skip

    def begin(self, exec_id: ExecutionId) -> None:
        if exec_id in self.members:
            return
        record = reading.get_execution(self.home.database, exec_id)
        step = self._children[record.inputs["number"]]
        self.members[exec_id] = Member(self, exec_id, step, record.inputs["so_far"], parent=record.parent)


class Outage:
    """Of some seeds: the world is down from the n-th call on for so many calls; then what has failed is retried."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(f"outage {seed}")
        self.comes = random.random() < 0.25
        self._begun = 0
        self._begins = random.randint(0, 6)
        self._ends = self._begins + random.choice((1, 2, 4, 8, 1000))
        self._by_hand = random.choice((1, 1, 2)) if self.comes else 0
        self.retries = random.choice((0, 0, 1)) if self.comes else 0
        """The flow's own."""

    def meets(self) -> bool:
        """Whether a call that ends now does."""
        self._begun += 1
        return self.comes and self._begins < self._begun <= self._ends

    def retry(self, *, failed: bool) -> bool:
        """Whether what has ended is retried by hand. The last time is when the world is up again."""
        if not failed or not self._by_hand:
            return False
        self._by_hand -= 1
        if not self._by_hand or self.random.random() < 0.7:
            self._ends = 0
        return True


def program_number(program: Program | Child) -> int:
    return program.number if isinstance(program, Child) else 0


def in_a_thread(call: Callable[[], None]) -> list[BaseException]:
    """Call it as in a process of its own, without the caller's context and loop; what it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)

    # It is no thread of a flow's, whoever's turn it is.
    token, scope = current.set(None), scopes.pop(threading.get_ident(), None)
    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    finally:
        current.reset(token)
        if scope is not None:
            scopes[threading.get_ident()] = scope
    return raised
