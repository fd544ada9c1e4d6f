"""Recorded calls that are made with other arguments: a warning that names them, or a divergence.

It is a divergence, whatever is said of warnings, where calls have come in another order, so that one would get what was
recorded for another: where the arguments are those of another recorded call of the same name and scope.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from kitaru_runner.values.arguments import differences, same_inputs, told

if TYPE_CHECKING:
    from kitaru_registry.journal.entries import Entry
    from kitaru_registry.journal.keys import Call
    from kitaru_runner.engine.core.attempt import Attempt

ORDER = "calls come in the same order in each attempt: sort what a set gives, of which each process has its own order"


def check_arguments(
    attempt: Attempt, call: Call, entry: Entry, inputs: bytes, arguments: Callable[[], Mapping[str, object]]
) -> None:  # fmt: skip
    """Record, once, that a recorded call is made with other arguments, and which they are; and that it is made at all,
    where its outcome had only been kept.

    Raises:
        KitaruDivergenceError: another recorded call was made with them; or `divergence = "strict"`. The execution has
            failed.
    """
    if entry.soft:
        attempt.note_use(entry)
    if entry.inputs is None or same_inputs(entry.inputs, inputs):
        return
    message = f"{call.key} was recorded with other arguments than it is called with now"
    message += told(differences(entry.inputs, inputs, arguments()))
    # A replay may be on other code, and with other inputs: there that is meant.
    if attempt.opening.replay is None and not attempt.recorded.is_accepted(call):
        refuse_swapped(attempt, call, attempt.recorded.of_arguments(call, inputs))
        if attempt.opening.strict:
            attempt.diverge(call, message, "a flow's body must make its calls with the same arguments")
        attempt.recorded.mistaken.append(entry)
    attempt.warn(f"{call.key}!inputs", message)


def check_new(attempt: Attempt, call: Call, inputs: bytes) -> None:
    """
    Raises:
        KitaruDivergenceError: a recorded call was made with these arguments, and its outcome went to another.
    """
    mistaken = (entry for entry in attempt.recorded.mistaken if entry.inputs and same_inputs(entry.inputs, inputs))
    refuse_swapped(attempt, call, next((entry for entry in mistaken if attempt.recorded.is_such(entry, call)), None))


def refuse_swapped(attempt: Attempt, call: Call, other: Entry | None) -> None:
    if other is not None:
        attempt.diverge(call, f"{call.key} is called with what {other.key} was recorded with", ORDER)
