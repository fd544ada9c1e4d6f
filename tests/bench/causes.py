"""Why a target is missed, by the figure's name; shown where it is. What was measured to find it out is in the text."""

from __future__ import annotations

from collections.abc import Mapping

CLI = (
    "Typer and sqlalchemy take 900 million instructions, not counting the garbage collector's, which looks rarely in a "
    "command. Pydantic, by which typer converts words and which the records of the CLI's contract are, takes 270 more; "
    "what is Kitaru's own, 350."
)
THREADS = (
    "A synchronous checkpoint that waits needs a thread of its own. A hundred of them, which take the interpreter "
    "from each other, cost about 30 ms of the processor beside the 10 ms that they wait: where other work has the "
    "processors it takes longer, as the baseline does. Async checkpoints need no threads: see gather."
)

CAUSES: Mapping[str, str] = {
    "a checkpoint in process, FULL": (
        "0.05 to 0.1 ms of Python: key and digest of the call, encoding its value and reading it back, lineage, the "
        "order of outcomes. With NORMAL it is 0.02 ms; after an fsync the processor's caches are cold, and it takes "
        "three times as long. SQLite's own part is 1 us more than the raw commit's. A disk that syncs in 0.1 ms, as "
        "this one at times, leaves 0.04 ms for it."
    ),
    "Kitaru, in process, FULL": (
        "A raw commit alone is 0.3 to 0.4 of the peer's step, by the disk's pace in that hour; ours adds 0.05 to 0.1 "
        "ms."
    ),
    "100 checkpoints of 10 ms by .map, in process": THREADS,
    "100 checkpoints of 10 ms by .map, deployed": THREADS,
    "an isolated step of 40 MB": (
        "A process starts for it, 110 ms with a result of 1 KB. What is left grows with the result, and is 1.8 times "
        "what it takes in process: the value goes through a socket once more."
    ),
    "a step of 10 MB, deployed": (
        "The value goes through a socket before it is hashed, written and synced: about 15 ms. The rest is the "
        "disk's, and changes from run to run as the baseline does."
    ),
    "invoke a deployed no-op, call to result": (
        "Each execution has a process of its own, in its snapshot's environment, that imports its code: most of that. "
        "Processes that are started ahead would take most of it away; there are none yet."
    ),
    "resume at 990 of 1,000, runner and child killed, `kitaru executions resume`": (
        "Three processes start: the command and, from its first moments on, the runner beside it, each of which loads "
        "sqlalchemy and pydantic (1,500 million instructions each, on two processors); then the child. Where a runner "
        "lives, as in the row above, it takes a third of a second."
    ),
    "kitaru executions list": CLI,
    "kitaru tag move": CLI,
}
