"""The garbage collector while a process starts, and while it ends.

A command makes 200,000 objects by importing libraries, and nearly all of them stay. At its usual pace the collector
looks through them hundreds of times, and once more as the interpreter ends: a quarter of `import typer, sqlalchemy`.
"""

from __future__ import annotations

import gc

RARELY = 100_000
"""Objects more than went away, between two looks: some 20 MB of garbage at most."""

USUALLY = gc.get_threshold()


def collect_rarely() -> None:
    """Let the collector look so rarely that an import is over before it does."""
    gc.set_threshold(RARELY, *USUALLY[1:])


def collect_as_usual() -> None:
    """For what lasts, and for code of others; what is there by now is taken to stay."""
    if collects_rarely():
        gc.freeze()
        gc.set_threshold(*USUALLY)


def collects_rarely() -> bool:
    return gc.get_threshold() != USUALLY


def collect_no_more() -> None:
    """Let the interpreter end without a look through everything: only what a reference cycle holds is not finalized."""
    gc.freeze()
