"""Tests of flows: a week in milliseconds, a crash at any write, any order of threads from a seed.

    from kitaru import testing

    outcome = testing.run(order, "tea", answers={"approve": True}, crash_at=2)
    assert outcome.result == "sent"

Not imported by `import kitaru`, and needs no test framework.
"""

from kitaru.testing.clocks import Clock
from kitaru.testing.crashes import crash_at
from kitaru.testing.exploring import ExplorationFailed, crash_everywhere, explore
from kitaru.testing.homes import home
from kitaru.testing.outcomes import Entry, Outcome
from kitaru.testing.runs import run

__all__ = [
    "Clock",
    "Entry",
    "ExplorationFailed",
    "Outcome",
    "crash_at",
    "crash_everywhere",
    "explore",
    "home",
    "run",
]
