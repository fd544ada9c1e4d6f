"""The pauses between the tries of a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitaru_registry.clock import now_us
from kitaru_registry.journal.keys import Call
from kitaru_runner.engine.core.lanes import Slot
from kitaru_runner.engine.core.specs import CheckpointSpec

if TYPE_CHECKING:
    from kitaru_runner.engine.core.attempt import Attempt


def pause_us(attempt: Attempt, call: Call, spec: CheckpointSpec) -> int:
    """Microseconds that are left of the pause after the last failed try."""
    failed, ended_us = attempt.recorded.failed_tries(call.key)
    if not failed:
        return 0
    return max(0, ended_us + spec.backoff.pause_us(failed, salt=call.key) - now_us())


def pause(attempt: Attempt, call: Call, spec: CheckpointSpec, slot: Slot | None = None) -> None:
    """Let the pause after a failed try pass. Another call may have its room meanwhile."""
    left = pause_us(attempt, call, spec)
    if left <= 0:
        return
    from kitaru_runner.engine.checkpoints.stands import pause_before_try

    if slot is not None:
        slot.leave()
    pause_before_try(attempt, call, left)
    if slot is not None:
        slot.enter_again()
