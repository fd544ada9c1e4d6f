"""Random flow programs: what they are made of, and what a run of one must come to.

A program is a small tree, which `generating.py` makes from a seed. `bodies.py` lets it run as a flow, `models.py` says
what the run must have recorded. Both walk it with the `Walk` below; only what a step does differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from zlib import crc32


class Boom(Exception):
    """The planned failure of a step."""

    call: str | None = None
    """In a model: the key of the checkpoint whose failure it is."""


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
    changes: bool = False
    """Whether it changes one of its arguments."""


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
class Rest(Step):
    """`await asyncio.sleep(seconds)`: a timer of the flow's own."""

    seconds: float


@dataclass(frozen=True)
class Pool(Step):
    """Tasks that take blocks from a queue, until that is empty."""

    blocks: tuple[tuple[Step, ...], ...]
    workers: int


@dataclass(frozen=True)
class Thread(Step):
    """`await asyncio.to_thread(block)`: of synchronous checkpoints."""

    block: tuple[Step, ...]


@dataclass(frozen=True)
class Threads(Step):
    """Blocks in threads of a plain flow's own, joined in their order: in a pool, or a thread each; with a copy of the
    flow's context or without. Where one `raises`, its failure goes through, else it is a value."""

    blocks: tuple[tuple[Step, ...], ...]
    how: str
    limit: int | None = None
    copies_context: bool = False
    raises: bool = False


@dataclass(frozen=True)
class Loop(Step):
    """An event loop that a plain flow runs, as with `asyncio.run`, for a block."""

    block: tuple[Step, ...]
    how: str


@dataclass(frozen=True)
class Child(Step):
    """A child flow: `steps` are its body, `meanwhile` what its parent does before it takes the outcome."""

    name: str
    is_async: bool
    steps: tuple[Step, ...]
    how: str
    take: str
    meanwhile: tuple[Step, ...] = ()
    timeout_seconds: float | None = None


@dataclass(frozen=True)
class Program:
    seed: int
    is_async: bool
    steps: tuple[Step, ...]


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
