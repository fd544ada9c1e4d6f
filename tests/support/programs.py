"""Random flow programs: what they are made of, and what a run of one must come to.

A program is a small tree that follows from a seed. `bodies.py` lets it run as a flow, `models.py` says what the run
must have recorded. Both walk it with the `Walk` below; only what a step does differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any
from zlib import crc32

NAMES = ("alpha", "beta", "gamma")


class Boom(Exception):
    """The planned failure of a step."""


def mix(*values: object) -> int:
    """A number that follows from all of them: whatever goes another way than planned shows in every later value."""
    return crc32(repr(values).encode())


@dataclass(frozen=True)
class Step:
    number: int


@dataclass(frozen=True)
class Call(Step):
    """A checkpoint. Its first `fails` tries fail, after what is `inner` was called in each."""

    name: str
    retries: int = 0
    fails: int = 0
    backoff_seconds: float = 0.0
    inner: tuple[Step, ...] = ()
    is_async: bool = False
    takes_seconds: float = 0.0
    timeout_seconds: float | None = None
    id: str | None = None


@dataclass(frozen=True)
class Fan(Step):
    """Calls side by side, and how the flow comes to their outcomes: in their order, or as they end."""

    calls: tuple[Call, ...]
    how: str
    join: str
    limit: int | None = None
    meanwhile: tuple[Step, ...] = ()
    chained: bool = False


@dataclass(frozen=True)
class Attempt(Step):
    """`try: block; except Boom: fallback`"""

    block: tuple[Step, ...]
    fallback: tuple[Step, ...]


@dataclass(frozen=True)
class Choose(Step):
    """One of two blocks, by the values so far."""

    even: tuple[Step, ...]
    odd: tuple[Step, ...]


@dataclass(frozen=True)
class Raise(Step):
    pass


@dataclass(frozen=True)
class Note(Step):
    what: str


@dataclass(frozen=True)
class Sleep(Step):
    seconds: float


@dataclass(frozen=True)
class Wait(Step):
    name: str
    timeout_seconds: float | None = None
    has_default: bool = False


@dataclass(frozen=True)
class WaitAny(Step):
    names: tuple[str, ...]
    timeout_seconds: float | None = None


@dataclass(frozen=True)
class Keep(Step):
    """`save` or `log`"""

    what: str


@dataclass(frozen=True)
class Tasks(Step):
    """Blocks side by side on a loop: gathered, in a group, or the first that ends."""

    blocks: tuple[tuple[Step, ...], ...]
    how: str
    limit: int | None = None


@dataclass(frozen=True)
class InTime(Step):
    """`asyncio.wait_for(call, timeout)`"""

    call: Call
    timeout_seconds: float


@dataclass(frozen=True)
class Program:
    seed: int
    is_async: bool
    steps: tuple[Step, ...]
    flow_retries: int = 0


@dataclass
class Generator:
    """Makes a program from a seed."""

    random: Random
    is_async: bool
    size: int = 8
    made: int = 0
    waits: int = 0
    in_race: bool = False
    """Within branches of which the first counts. A time-out of the flow's own is not replayed in its place there."""

    def program(self, seed: int) -> Program:
        steps = self.block(self.random.randint(1, 4), depth=0)
        return Program(seed, self.is_async, steps)

    def block(self, count: int, *, depth: int, in_flow: bool = True) -> tuple[Step, ...]:
        return tuple(self.step(depth=depth, in_flow=in_flow) for _ in range(count))

    def number(self) -> int:
        self.made += 1
        return self.made

    def step(self, *, depth: int, in_flow: bool) -> Step:
        kinds: list[Any] = [self.call] * 4
        if depth < 3 and self.made < 30:
            kinds += [self.attempt, self.attempt, self.choose]
            if in_flow or not self.is_async:
                kinds += [self.fan] * 3
            if self.is_async and in_flow:
                kinds += [self.tasks] * 5
                if not self.in_race:
                    kinds += [self.in_time] * 2
        if in_flow:
            kinds += [self.note, self.sleep, self.wait, self.wait, self.wait_any, self.keep]
        if depth > 0:
            kinds += [self.fail]
        step: Step = self.random.choice(kinds)(depth=depth, in_flow=in_flow)
        return step

    def call(self, *, depth: int, in_flow: bool, plain: bool = False) -> Call:
        draw = self.random
        retries = draw.choice((0, 0, 0, 1, 2))
        fails = draw.choice((0, 0, 0, 0, 1, 2, 3)) if depth else min(draw.choice((0, 0, 1, 2)), retries)
        nested = depth < 2 and self.made < 30 and draw.random() < 0.25 and not plain
        is_async = self.is_async and in_flow and draw.random() < 0.7
        nested = nested and not is_async
        takes = draw.choice((0.0, 0.0, 0.5, 2.0)) if not nested else 0.0
        timeout = draw.choice((None, None, None, 1.0, 50.0)) if not nested else None
        return Call(
            self.number(), draw.choice(NAMES), retries, fails, draw.choice((0.0, 0.0, 0.5, 20.0)),
            self.block(draw.randint(1, 2), depth=depth + 2, in_flow=False) if nested else (),
            is_async=is_async, takes_seconds=takes, timeout_seconds=timeout,
        )  # fmt: skip

    def fan(self, *, depth: int, in_flow: bool) -> Fan:
        draw = self.random
        number, how = self.number(), draw.choice(("submit", "map"))
        count = draw.randint(1, 4)
        if how == "map":
            one = self.call(depth=depth + 1, in_flow=in_flow, plain=True)
            calls = (one,) * count
        else:
            calls = tuple(self.call(depth=depth + 1, in_flow=in_flow, plain=True) for _ in range(count))
        meanwhile = self.block(draw.randint(0, 2), depth=depth + 1, in_flow=in_flow)
        return Fan(
            number, calls, how, draw.choice(("all", "as_completed", "first", "never")),
            limit=draw.choice((None, None, 1, 2)), meanwhile=meanwhile, chained=draw.random() < 0.3,
        )  # fmt: skip

    def attempt(self, *, depth: int, in_flow: bool) -> Attempt:
        number = self.number()
        count = self.random.randint(1, 2)
        block = self.block(count, depth=depth + 1, in_flow=in_flow)
        return Attempt(number, block, self.block(self.random.randint(0, 1), depth=depth + 1, in_flow=in_flow))

    def choose(self, *, depth: int, in_flow: bool) -> Choose:
        number = self.number()
        even, odd = (self.block(self.random.randint(0, 2), depth=depth + 1, in_flow=in_flow) for _ in "ab")
        return Choose(number, even, odd)

    def fail(self, *, depth: int, in_flow: bool) -> Raise:
        return Raise(self.number())

    def note(self, *, depth: int, in_flow: bool) -> Note:
        return Note(self.number(), self.random.choice(("now", "random", "uuid4")))

    def sleep(self, *, depth: int, in_flow: bool) -> Sleep:
        return Sleep(self.number(), self.random.choice((0.0, 1.0, 3.0, 60.0, 86_400.0)))

    def wait(self, *, depth: int, in_flow: bool) -> Wait:
        timeout = self.random.choice((None, None, 2.0, 3600.0))
        return Wait(self.number(), self.asked(), timeout, has_default=self.random.random() < 0.5)

    def wait_any(self, *, depth: int, in_flow: bool) -> WaitAny:
        names = tuple(f"{self.asked()}{letter}" for letter in "abc"[: self.random.randint(2, 3)])
        return WaitAny(self.number(), names, self.random.choice((None, 3600.0)))

    def asked(self) -> str:
        # Some of one name, which are told apart by their keys.
        self.waits += self.random.random() < 0.7
        return f"ask{self.waits}"

    def keep(self, *, depth: int, in_flow: bool) -> Keep:
        return Keep(self.number(), self.random.choice(("save", "log")))

    def tasks(self, *, depth: int, in_flow: bool) -> Tasks:
        number = self.number()
        how = self.random.choice(("gather", "gather", "group", "first", "race"))
        outside, self.in_race = self.in_race, self.in_race or how != "gather"
        blocks = tuple(self.block(self.random.randint(1, 2), depth=depth + 1) for _ in range(self.random.randint(1, 4)))
        self.in_race = outside
        return Tasks(number, blocks, how, limit=self.random.choice((None, None, 1, 2)))

    def in_time(self, *, depth: int, in_flow: bool) -> InTime:
        number = self.number()
        call = self.call(depth=depth + 1, in_flow=in_flow, plain=True)
        call = Call(
            call.number, call.name, call.retries, call.fails, call.backoff_seconds, is_async=True,
            takes_seconds=self.random.choice((0.0, 1.0, 5.0)),
        )  # fmt: skip
        return InTime(number, call, self.random.choice((0.5, 3.0, 30.0)))


def walked(steps: Iterable[Step]) -> Iterator[Step]:
    """Every step of a program, with those inside."""
    for step in steps:
        yield step
        for value in vars(step).values():
            inside = value if isinstance(value, tuple) else (value,)
            for each in inside:
                if isinstance(each, tuple):
                    yield from walked(each)
                elif isinstance(each, Step):
                    yield from walked([each])


def program_of(seed: int) -> Program:
    random = Random(f"program {seed}")
    return Generator(random, is_async=random.random() < 0.4).program(seed)


@dataclass
class Place:
    """Where a walk is: the values so far in this line of execution, and what it has in the model."""

    path: str
    so_far: int = 0
    scope: Any = None

    def fold(self, number: int, value: object) -> None:
        self.so_far = mix(self.so_far, number, value)


class Walk:
    """Walks a program; a subclass says what a step does. Synchronous ones never really await."""

    async def block(self, place: Place, steps: tuple[Step, ...]) -> int:
        for step in steps:
            await self.step(place, step)
        return place.so_far

    async def step(self, place: Place, step: Step) -> None:
        value: object
        if isinstance(step, Attempt):
            value = await self.attempt(place, step)
        elif isinstance(step, Choose):
            await self.block(place, step.odd if place.so_far % 2 else step.even)
            return
        elif isinstance(step, Raise):
            raise Boom("planned", step.number)
        else:
            value = await getattr(self, type(step).__name__.lower())(place, step)
        place.fold(step.number, value)

    async def attempt(self, place: Place, step: Attempt) -> object:
        try:
            return await self.block(place, step.block)
        except Boom as error:
            place.fold(step.number, error.args)
            return await self.block(place, step.fallback)
