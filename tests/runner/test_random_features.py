"""What the random programs are made of: none of what they are to try may silently disappear from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import pytest
from again import epochs_of
from generating import program_of
from homes import memory_home
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
    walked,
)
from replayed_programs import is_replayed
from seeds import SEEDS
from trials import Trial

LEAST = 10
"""Programs out of a thousand."""


def calls(holds: Callable[[Call], object]) -> Callable[[Step], bool]:
    return lambda step: isinstance(step, Call) and bool(holds(step))


def fans(holds: Callable[[Fan], object]) -> Callable[[Step], bool]:
    return lambda step: isinstance(step, Fan) and bool(holds(step))


def tasks(how: str) -> Callable[[Step], bool]:
    return lambda step: isinstance(step, Tasks) and step.how == how


def own_threads(holds: Callable[[Threads], object]) -> Callable[[Step], bool]:
    return lambda step: isinstance(step, Threads) and bool(holds(step))


def children(holds: Callable[[Child], object]) -> Callable[[Step], bool]:
    return lambda step: isinstance(step, Child) and bool(holds(step))


def holds_any(steps: tuple[Step, ...], kind: type[Step]) -> bool:
    return any(isinstance(step, kind) for step in walked(steps))


FEATURES: Mapping[str, Callable[[Step], bool]] = {
    "a synchronous checkpoint": calls(lambda call: not call.is_async),
    "an asynchronous checkpoint": calls(lambda call: call.is_async),
    "a checkpoint within one": calls(lambda call: call.inner),
    "a retry that helps": calls(lambda call: 0 < call.fails <= call.retries),
    "retries that do not help": calls(lambda call: 0 < call.retries < call.fails),
    "a pause that is held": calls(lambda call: call.fails and 0 < call.backoff_seconds < 5),
    "a pause that parks": calls(lambda call: call.fails and call.backoff_seconds >= 20),
    "a timeout": calls(lambda call: call.timeout_seconds and call.takes_seconds > call.timeout_seconds),
    "a changed argument": calls(lambda call: call.changes),
    "a changed argument of a try that fails": calls(lambda call: call.changes and call.fails),
    "submit": fans(lambda fan: fan.how == "submit"),
    "submit after another": fans(lambda fan: fan.how == "submit" and fan.chained and len(fan.calls) > 1),
    "map": fans(lambda fan: fan.how == "map"),
    "max_concurrency": fans(lambda fan: fan.how == "map" and fan.limit),
    "futures that nobody takes": fans(lambda fan: fan.join == "never"),
    "futures in their order": fans(lambda fan: fan.join == "all"),
    "futures as_completed": fans(lambda fan: fan.join == "as_completed" and len(fan.calls) > 1),
    "futures FIRST_COMPLETED": fans(lambda fan: fan.join == "first" and len(fan.calls) > 1),
    "gather": tasks("gather"),
    "a task group": tasks("group"),
    "tasks FIRST_COMPLETED": tasks("first"),
    "tasks as_completed": tasks("as_completed"),
    "tasks that are cancelled": tasks("race"),
    "a pool of tasks": lambda step: isinstance(step, Pool) and step.workers > 1,
    "to_thread": lambda step: isinstance(step, Thread),
    "threads of its own": own_threads(lambda own: own.how == "threads"),
    "a pool of threads of its own": own_threads(lambda own: own.how in ("pool", "map")),
    "threads with a copied context": own_threads(lambda own: own.copies_context),
    "threads that wait": own_threads(lambda own: any(holds_any(block, Wait) for block in own.blocks)),
    "threads in threads": own_threads(lambda own: any(holds_any(block, Threads) for block in own.blocks)),
    "a failure in a thread that goes through": own_threads(
        lambda own: own.raises and any(holds_any(block, Raise) for block in own.blocks)
    ),
    "a loop of its own": lambda step: isinstance(step, Loop),
    "a loop of its own that waits": lambda step: isinstance(step, Loop) and holds_any(step.block, Wait),
    "loops in threads": own_threads(lambda own: any(holds_any(block, Loop) for block in own.blocks)),
    "asyncio.sleep": lambda step: isinstance(step, Rest),
    "wait_for": lambda step: isinstance(step, InTime),
    "wait_for that is too late": lambda step: (
        isinstance(step, InTime) and step.call.takes_seconds > step.timeout_seconds
    ),
    "a caught failure": lambda step: isinstance(step, Attempt) and holds_any(step.block, Raise),
    "another way by the values": lambda step: isinstance(step, Choose),
    "a sleep that is held": lambda step: isinstance(step, Sleep) and 0 < step.seconds < 5,
    "a sleep that parks": lambda step: isinstance(step, Sleep) and step.seconds > 5,
    "a wait": lambda step: isinstance(step, Wait) and step.timeout_seconds is None,
    "a wait that expires": lambda step: isinstance(step, Wait) and step.timeout_seconds is not None,
    "a default": lambda step: isinstance(step, Wait) and step.timeout_seconds is not None and step.has_default,
    "wait_any": lambda step: isinstance(step, WaitAny),
    "now, random or uuid4": lambda step: isinstance(step, Note),
    "save or log": lambda step: isinstance(step, Keep),
    "a child by run": children(lambda child: child.how == "run"),
    "a child by invoke": children(lambda child: child.how == "invoke"),
    "an asynchronous child": children(lambda child: child.is_async),
    "a child that waits": children(lambda child: holds_any(child.steps, Wait)),
    "a child that fails": children(lambda child: any(isinstance(step, Raise) for step in child.steps)),
    "a child of a child": children(lambda child: holds_any(child.steps, Child)),
    "children side by side": lambda step: (
        isinstance(step, Tasks) and sum(holds_any(block, Child) for block in step.blocks) > 1
    ),
    **{
        f"a child whose result is taken: {take}": children(lambda child, take=take: child.take == take)
        for take in ("wait", "later", "never", "get", "in_time", "at_once")
    },
}


@pytest.fixture(scope="module")
def counts() -> Counter[str]:
    """In how many of the programs each is."""
    return Counter(name for seed in range(SEEDS) for name in set(features_of(program_of(seed))))


def features_of(program: Program) -> Iterator[str]:
    steps = list(walked(program.steps))
    yield "an asynchronous flow" if program.is_async else "a synchronous flow"
    yield from (name for name, holds in FEATURES.items() if any(holds(step) for step in steps))


@pytest.mark.parametrize("name", [*FEATURES, "an asynchronous flow", "a synchronous flow"])
def test_among_a_thousand_programs_some_have(name: str, counts: Counter[str]) -> None:
    assert counts[name] >= LEAST


def test_schedules_cut_parents_and_children_short_and_resume_them() -> None:
    came: Counter[str] = Counter()
    with memory_home() as home:
        for seed in range(SEEDS):
            if len(came) == 15 and min(came.values()) >= 3:
                return
            trial = Trial(home, seed)
            trial.run()
            came["a replay"] += is_replayed(trial.family)
            for member in trial.family.members.values():
                who = "a parent" if member.parent is None else "a child"
                came[f"{who} crashed"] += any(attempt.crashed for attempt in member.attempts)
                came[f"{who} crashed twice"] += sum(attempt.crashed for attempt in member.attempts) > 1
                came[f"{who} was resumed after it parked"] += any(
                    not attempt.crashed for attempt in member.attempts[:-1]
                )
                came[f"{who} ended at once"] += len(member.attempts) == 1
                epochs = epochs_of(member.rows, member.seen, member.rows_before)
                came[f"{who} was retried"] += len(epochs) > 1
                came[f"{who} was retried twice"] += len(epochs) > 2
                came[f"{who} crashed after a retry"] += any(len(epoch.seen) > 1 for epoch in epochs[1:])
    raise AssertionError(f"of all of these, some should have come: {came}")
