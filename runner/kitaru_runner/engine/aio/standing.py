"""Waits, sleeps and child executions that a task stands at; stands.py and child_flows.py have those of threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from kitaru_registry.journal.entries import Answer
from kitaru_registry.journal.keys import Call
from kitaru_runner.engine.aio.loop import LoopSide, branch_here, loop_side, take_turn
from kitaru_runner.engine.checkpoints.child_flows import given, record_end
from kitaru_runner.engine.checkpoints.stands import (
    Stand,
    gave_up_standing,
    open_anew,
    open_stand,
    record_answer,
    refuse_in_checkpoint,
)


async def stand(stand: Stand) -> Answer:
    """A wait's, a sleep's or a child execution's outcome. The branch stands still until it is there; others go on."""
    branch = branch_here(stand.name)
    refuse_in_checkpoint(branch, stand)
    attempt = branch.attempt
    side = loop_side(attempt, branch)
    call, entry, answer = open_stand(branch, stand)
    if entry is not None:
        if await take_turn(side, entry):
            assert answer is not None
            return replace(answer, key=call.key)
        answer = open_anew(attempt, call, stand)
    async with giving_up_standing(side, call):
        if answer is None:
            answer = await side.answer(call.key)
        await side.turn(record_answer(attempt, call, answer))
    return replace(answer, key=call.key)


async def wait_on_loop(stand: Stand, *, flow: str) -> Any:
    """`wait_for`, in a task."""
    branch = branch_here(stand.name)
    attempt = branch.attempt
    side = loop_side(attempt, branch)
    call, entry, answer = open_stand(branch, stand)
    if entry is not None:
        if entry.error is not None:
            attempt.unconsumed.recorded(call.key)
        if await take_turn(side, entry):
            return given(attempt, entry, stand.child)
        answer = open_anew(attempt, call, stand)
    async with giving_up_standing(side, call):
        if answer is None:
            answer = await side.answer(call.key)
        entry, seq = record_end(attempt, call, stand, answer, flow=flow)
        if entry.error is not None:
            attempt.unconsumed.recorded(call.key)
        await side.turn(seq)
    return given(attempt, entry, stand.child)


@asynccontextmanager
async def giving_up_standing(side: LoopSide, call: Call) -> AsyncIterator[None]:
    """Record it when the caller of a wait gives up."""
    try:
        yield
    except asyncio.CancelledError as error:
        if side.records:
            side.attempt.unconsumed.gave_up(call.key, error, branch_here(call.name).task)
            await side.commit_surely(gave_up_standing(call, error))
        raise
