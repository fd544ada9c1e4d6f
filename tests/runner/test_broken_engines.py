"""The random programs can fail: each of these engines is broken in one place, and some seed shows it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from homes import memory_home
from kept import KEPT, SCHEDULES
from programs import Call, InTime, Program, Tasks, Thread
from trials import check_seed

from kitaru_registry.executions import replaying, retrying, superseding, waits
from kitaru_registry.journal import keys
from kitaru_registry.journal.entries import ARGUMENT_CHANGED, Entry
from kitaru_runner.engine.aio import calling as calling_async
from kitaru_runner.engine.aio import loop as engine_async
from kitaru_runner.engine.aio.executors import Threads
from kitaru_runner.engine.aio.loop import LoopSide
from kitaru_runner.engine.aio.timers import Timers
from kitaru_runner.engine.checkpoints import call as calling
from kitaru_runner.engine.checkpoints import child_flows
from kitaru_runner.engine.checkpoints.tries import Executed, Try
from kitaru_runner.engine.core import calls as context
from kitaru_runner.engine.core.attempt import Attempt
from kitaru_runner.engine.core.recorded import Recorded
from kitaru_runner.engine.core.specs import CheckpointSpec, Work
from kitaru_runner.engine.threads.futures import Deliveries

MOST_SEEDS = 300
MOST_SCHEDULES = 100

Patch = pytest.MonkeyPatch


def hands_out_the_last_first(patch: Patch) -> None:
    def last_for(self: Deliveries, waiter: object) -> int | None:
        return next((seq for seq in reversed(self._order) if waiter in self._open[seq]._waiters), None)

    patch.setattr(Deliveries, "_first_for", last_for)


def lets_tasks_go_on_out_of_turn(patch: Patch) -> None:
    async def turn(self: LoopSide, seq: int) -> None:
        self.delivered(seq)

    patch.setattr(LoopSide, "turn", turn)


def forgets_failed_tries(patch: Patch) -> None:
    known = Recorded.__init__

    def forgetting(self: Recorded, opening: Any) -> None:
        known(self, opening)
        self._failed_tries.clear()

    patch.setattr(Recorded, "__init__", forgetting)


def forgets_an_outcome(patch: Patch) -> None:
    known = Recorded.find

    def find(self: Recorded, call: keys.Call, inputs: bytes | None = None) -> Entry | None:
        return None if call.name == "gamma" and not call.scope else known(self, call, inputs)

    patch.setattr(Recorded, "find", find)


def records_before_it_executes(patch: Patch) -> None:
    perform = calling.perform

    def recorded_first(this_try: Try, work: Work) -> Executed:
        this_try.branch.attempt.commit([this_try.returned(0).entry])
        return perform(this_try, work)

    patch.setattr(calling, "perform", recorded_first)


def gives_an_outcome_without_recording_it(patch: Patch) -> None:
    commit = calling.commit

    def lost(attempt: Attempt, ended: Executed) -> Executed:
        return ended if ended.entry.name is None else commit(attempt, ended)

    patch.setattr(calling, "commit", lost)


def does_not_record_who_gave_up(patch: Patch) -> None:
    @asynccontextmanager
    async def giving_up(side: LoopSide, call: keys.Call, work: Work, attempt: Try | None = None) -> AsyncIterator[None]:
        yield

    patch.setattr(calling_async, "giving_up", giving_up)


def forgets_which_timers_were_over(patch: Patch) -> None:
    begun = Timers.__init__

    def forgetting(self: Timers, *args: Any) -> None:
        begun(self, *args)
        self._over.clear()

    patch.setattr(Timers, "__init__", forgetting)


def forgets_when_threads_came_back(patch: Patch) -> None:
    begun = Threads.__init__

    def forgetting(self: Threads, *args: Any) -> None:
        begun(self, *args)
        self._ended.clear()

    patch.setattr(Threads, "__init__", forgetting)


def numbers_calls_in_the_order_of_the_schedule(patch: Patch) -> None:
    patch.setattr(context.Branch, "open", lambda self, kind: self)


def calls_threads_by_who_comes_first(patch: Patch) -> None:
    patch.setattr(context.Branch, "open_thread", lambda self, name: self)


def forgets_in_a_replay_what_a_call_has_changed(patch: Patch) -> None:
    known = Recorded.find

    def find(self: Recorded, call: keys.Call, inputs: bytes | None = None) -> Entry | None:
        entry = known(self, call, inputs)
        return entry and entry._replace(flags=entry.flags & ~ARGUMENT_CHANGED)

    patch.setattr(Recorded, "find", find)


def tries_once_more(patch: Patch) -> None:
    again = CheckpointSpec.retries_after

    def one_more(self: CheckpointSpec, error: BaseException, failed: int) -> bool:
        return again(self, error, failed - 1) if failed > 1 else again(self, error, failed)

    patch.setattr(CheckpointSpec, "retries_after", one_more)


def starts_a_child_again(patch: Patch) -> None:
    known = Recorded.find

    def find(self: Recorded, call: keys.Call, inputs: bytes | None = None) -> Entry | None:
        entry = known(self, call, inputs)
        return None if entry is not None and entry.kind == "x" else entry

    patch.setattr(Recorded, "find", find)


def takes_a_child_out_of_turn(patch: Patch) -> None:
    async def wait_on_loop(stand: Any, *, flow: str) -> Any:
        branch = engine_async.branch_here(stand.name)
        side = engine_async.loop_side(branch.attempt, branch)
        call, entry, answer = child_flows.open_stand(branch, stand)
        if entry is None:
            answer = answer or await side.answer(call.key)
            entry, _ = child_flows.record_end(branch.attempt, call, stand, answer, flow=flow)
        return branch.attempt.outcome(entry)

    patch.setattr("kitaru.children.wait_on_loop", wait_on_loop)


def takes_another_answer_later(patch: Patch) -> None:
    answers = waits.answers

    def changed(connection: Any, row: int, keys: Any) -> dict[str, Any]:
        found = answers(connection, row, keys)
        return {key: {**came, "value": f"{came['value']}!"} if came["value"] else came for key, came in found.items()}

    patch.setattr(waits, "answers", changed)


def retries_what_the_flow_had_caught(patch: Patch) -> None:
    known = retrying.unconsumed_of

    def everything(connection: Any, row: int, error: Mapping[str, Any]) -> list[str]:
        current = retrying.current_of(connection, row)
        failed = [c.row.key for c in current if superseding.is_failure(c.row) and c.row.kind == "c"]
        return [*known(connection, row, error), *failed]

    patch.setattr(retrying, "unconsumed_of", everything)


def retries_only_the_failure_that_it_shows(patch: Patch) -> None:
    known = retrying.unconsumed_of
    patch.setattr(retrying, "unconsumed_of", lambda *given: known(*given)[:1])


def retries_nothing(patch: Patch) -> None:
    patch.setattr(superseding, "is_superseded", lambda row, keys: False)


def replays_behind_the_call_that_was_named(patch: Patch) -> None:
    patch.setattr(replaying, "is_reused", lambda current, cut, again: current.row.seq <= cut)


def replays_from_the_beginning(patch: Patch) -> None:
    patch.setattr(replaying, "is_reused", lambda current, cut, again: False)


ANY = [
    replays_behind_the_call_that_was_named,
    replays_from_the_beginning,
    retries_what_the_flow_had_caught,
    retries_only_the_failure_that_it_shows,
    retries_nothing,
    hands_out_the_last_first,
    lets_tasks_go_on_out_of_turn,
    forgets_failed_tries,
    forgets_an_outcome,
    records_before_it_executes,
    gives_an_outcome_without_recording_it,
    numbers_calls_in_the_order_of_the_schedule,
    calls_threads_by_who_comes_first,
    forgets_in_a_replay_what_a_call_has_changed,
    tries_once_more,
    starts_a_child_again,
    forgets_which_timers_were_over,
    takes_another_answer_later,
]

FEW: Mapping[Callable[[Patch], None], Program] = {
    does_not_record_who_gave_up: Program(
        0, True, (InTime(1, Call(2, "alpha", is_async=True, takes_seconds=5.0), 0.5), Call(3, "beta", is_async=True))
    ),
    forgets_when_threads_came_back: Program(
        0,
        True,
        (
            Tasks(
                1,
                (
                    (Thread(2, (Call(3, "alpha", takes_seconds=2.0),)),),
                    (Call(4, "beta", is_async=True, takes_seconds=2.0),),
                ),
                "first",
            ),
            Call(5, "gamma", is_async=True),
        ),
    ),
    takes_a_child_out_of_turn: KEPT["a child's end has its turn among the other outcomes"],
}
"""What random programs seldom come across, and a program that does under some schedules."""


# What a broken engine leaves behind is not looked at.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("broken", ANY, ids=lambda broken: broken.__name__)
def test_a_random_program_shows_an_engine_that(broken: Callable[[Patch], None], monkeypatch: Patch) -> None:
    broken(monkeypatch)

    assert first_that_fails() is not None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("broken", FEW, ids=lambda broken: broken.__name__)
def test_some_schedule_of_a_program_shows_an_engine_that(broken: Callable[[Patch], None], monkeypatch: Patch) -> None:
    assert first_that_fails(FEW[broken], SCHEDULES) is None
    broken(monkeypatch)

    assert first_that_fails(FEW[broken], MOST_SCHEDULES) is not None


def first_that_fails(program: Program | None = None, seeds: int = MOST_SEEDS) -> int | None:
    with memory_home() as home:
        for seed in range(seeds):
            try:
                check_seed(home, seed, program)
            except BaseException as error:
                if type(error) is KeyboardInterrupt:
                    raise
                return seed
    return None
