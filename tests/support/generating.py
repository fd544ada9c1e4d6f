"""Random flow programs: a seed makes one."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from programs import (
    Attempt,
    Call,
    Child,
    Choose,
    Fan,
    InTime,
    Keep,
    Loop,
    Note,
    Pool,
    Program,
    Raise,
    Rest,
    Sleep,
    Step,
    Tasks,
    Thread,
    Threads,
    Wait,
    WaitAny,
)

NAMES = ("alpha", "beta", "gamma")


@dataclass
class Generator:
    """Makes a program from a seed."""

    random: Random
    is_async: bool
    size: int = 8
    made: int = 0
    waits: int = 0
    children: int = 0
    threads_around: int = 0

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
                kinds += [self.tasks] * 5 + [self.pool] * 2 + [self.in_time] * 4
                kinds += [self.thread, self.rest]
            if not self.is_async:
                kinds += [self.threads] * 3
                # Each in many threads at once takes seconds.
                kinds += [self.loop] if in_flow and self.threads_around < 2 else []
            if in_flow and self.children < 3:
                kinds += [self.child] * 2
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
        changes = not plain and depth > 0 and timeout is None and draw.random() < 0.15
        return Call(
            self.number(), draw.choice(NAMES), retries, fails, draw.choice((0.0, 0.0, 0.5, 20.0)),
            self.block(draw.randint(1, 2), depth=depth + 2, in_flow=False) if nested else (),
            is_async=is_async, takes_seconds=takes, timeout_seconds=timeout, changes=changes,
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
        how = self.random.choice(("gather", "gather", "group", "first", "race", "as_completed"))
        blocks = tuple(self.block(self.random.randint(1, 2), depth=depth + 1) for _ in range(self.random.randint(1, 4)))
        if how in ("group", "race") and self.random.random() < 0.3:
            blocks = (*blocks, (Raise(self.number()),))
        return Tasks(number, blocks, how, limit=self.random.choice((None, None, 1, 2)))

    def pool(self, *, depth: int, in_flow: bool) -> Pool:
        number = self.number()
        blocks = tuple(self.block(self.random.randint(1, 2), depth=depth + 1) for _ in range(self.random.randint(2, 5)))
        return Pool(number, blocks, self.random.randint(1, 3))

    def rest(self, *, depth: int, in_flow: bool) -> Rest:
        return Rest(self.number(), self.random.choice((0.0, 0.5, 2.0)))

    def thread(self, *, depth: int, in_flow: bool) -> Thread:
        number = self.number()
        calls = (self.call(depth=depth + 1, in_flow=False, plain=True) for _ in range(self.random.randint(1, 2)))
        return Thread(number, tuple(calls))

    def threads(self, *, depth: int, in_flow: bool) -> Threads:
        draw, number = self.random, self.number()
        count = draw.randint(1, 4)
        self.threads_around += 1
        blocks = tuple(self.block(draw.randint(1, 2), depth=depth + 1, in_flow=in_flow) for _ in range(count))
        self.threads_around -= 1
        return Threads(
            number, blocks, draw.choice(("pool", "map", "threads")), limit=draw.choice((None, None, 1, 2)),
            copies_context=draw.random() < 0.5, raises=draw.random() < 0.3,
        )  # fmt: skip

    def loop(self, *, depth: int, in_flow: bool) -> Loop:
        number, how = self.number(), self.random.choice(("run", "run", "runner"))
        self.is_async = True
        block = (self.tasks(depth=depth + 1, in_flow=True), *self.block(self.random.randint(0, 1), depth=depth + 1))
        self.is_async = False
        return Loop(number, block, how)

    def child(self, *, depth: int, in_flow: bool) -> Child:
        draw = self.random
        number, self.children = self.number(), self.children + 1
        outside, self.is_async = self.is_async, draw.random() < 0.4
        is_async, steps = self.is_async, self.block(draw.randint(1, 2), depth=depth + 1)
        self.is_async = outside
        take = draw.choice(("wait", "wait", "later", "never", "get", "in_time", "at_once"))
        meanwhile = self.block(draw.randint(0, 2), depth=depth + 1) if take in ("later", "get") else ()
        return Child(
            number, draw.choice(("child", "other")), is_async, steps, draw.choice(("run", "invoke")), take, meanwhile,
            timeout_seconds=draw.choice((2.0, 3600.0)) if take == "in_time" else None,
        )  # fmt: skip

    def in_time(self, *, depth: int, in_flow: bool) -> InTime:
        number = self.number()
        call = self.call(depth=depth + 1, in_flow=in_flow, plain=True)
        call = Call(
            call.number, call.name, call.retries, call.fails, call.backoff_seconds, is_async=True,
            takes_seconds=self.random.choice((0.0, 1.0, 5.0)),
        )  # fmt: skip
        return InTime(number, call, self.random.choice((0.5, 3.0, 30.0)))


def program_of(seed: int) -> Program:
    random = Random(f"program {seed}")
    return Generator(random, is_async=random.random() < 0.5).program(seed)
