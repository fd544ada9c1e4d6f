"""A smaller program that fails too: `python tests/support/shrinking.py SEED [SCHEDULES]` prints it, to be kept."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields, replace
from typing import Any

from generating import program_of
from homes import memory_home
from programs import Loop, Program, Step
from trials import check_seed

SECONDS = 30
"""A run that takes longer has come to no end."""


def smaller(steps: tuple[Step, ...]) -> Iterator[tuple[Step, ...]]:
    """Without one of them, with what is inside of one in its place, and with one that is made smaller."""
    for at, step in enumerate(steps):
        before, after = steps[:at], steps[at + 1 :]
        yield (*before, *after)
        for inside in blocks_of(step):
            yield (*before, *inside, *after)
        for less in smaller_step(step):
            yield (*before, less, *after)


def blocks_of(step: Step) -> Iterator[tuple[Step, ...]]:
    if isinstance(step, Loop):
        return  # what is in it awaits
    for value in vars(step).values():
        if isinstance(value, tuple) and value and isinstance(value[0], Step):
            yield value
        elif isinstance(value, tuple) and value and isinstance(value[0], tuple):
            yield from value


def smaller_step(step: Step) -> Iterator[Step]:
    for field in fields(step):
        value: Any = getattr(step, field.name)
        if isinstance(value, tuple) and value and isinstance(value[0], Step):
            yield from (replace(step, **{field.name: less}) for less in smaller(value) if less or field.name != "calls")
        elif isinstance(value, tuple) and value and isinstance(value[0], tuple):
            for at, block in enumerate(value):
                if len(value) > 1:
                    yield replace(step, **{field.name: (*value[:at], *value[at + 1 :])})
                for less in smaller(block):
                    yield replace(step, **{field.name: (*value[:at], less, *value[at + 1 :])})
        elif isinstance(value, Step):
            yield from (replace(step, **{field.name: less}) for less in smaller_step(value))
        elif field.name in ("number", "name", "how", "join", "take", "is_async", "workers"):
            continue
        elif value and field.default is not MISSING:
            yield replace(step, **{field.name: field.default})


def failing_schedule(program: Program, schedules: list[int]) -> int | None:
    """The first of the schedules under which it fails."""
    signal.signal(signal.SIGALRM, took_too_long)
    for schedule in schedules:
        with memory_home() as home:
            signal.alarm(SECONDS)
            try:
                check_seed(home, schedule, program)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt) and type(error) is KeyboardInterrupt:
                    raise
                print(f"  {schedule}: {error!r}"[:160], file=sys.stderr)
                return schedule
            finally:
                signal.alarm(0)
    return None


def took_too_long(*_: object) -> None:
    raise AssertionError("it has come to no end")


def shrunk(program: Program, schedules: list[int]) -> tuple[Program, int | None]:
    """The smallest of its kind that fails too, and the schedule under which it does."""
    found = failing_schedule(program, schedules)
    going_on = found is not None
    while going_on:
        going_on = False
        for steps in smaller(program.steps):
            less = replace(program, steps=steps)
            schedule = failing_schedule(less, [found, *schedules] if found is not None else schedules)
            if schedule is not None:
                program, found, going_on = less, schedule, True
                break
    return program, found


if __name__ == "__main__":
    seed, count = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20
    print(*shrunk(program_of(seed), [seed, *range(count)]), sep="\n")
