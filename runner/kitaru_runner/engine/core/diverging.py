"""What is said, and recorded, where a flow goes another way than its journal."""

from __future__ import annotations

from typing import Any

from kitaru_registry.errors import KitaruDivergenceError
from kitaru_registry.journal.keys import Call
from kitaru_runner.values.failures import caller_line, describe_failure


def divergence(exec_id: str, call: Call, message: str, rule: str) -> tuple[KitaruDivergenceError, dict[str, Any]]:
    """The error to raise, and the execution's failure.

    Args:
        rule: what a flow must do, so that this does not happen.
    """
    error = KitaruDivergenceError(
        message,
        hint=f"{rule}: move clocks, randomness and I/O into checkpoints; or go on with this call: "
        f"kitaru executions resume {exec_id} --accept {call.key} --reason ...",
        exec_id=exec_id,
        status="failed",
        failure_origin="divergence",
    )
    try:
        raise error
    except KitaruDivergenceError:
        described = describe_failure(error, origin="divergence", checkpoint=call.key)
    described.update(caller_line(), scope=call.scope, place=call.place)
    return error, described
