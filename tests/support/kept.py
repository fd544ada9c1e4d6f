"""Programs that once failed, each as small as it could be made, whatever the generator makes of their seeds by now.

A schedule changes with the engine too, so each is run under several. `python tests/support/shrinking.py SEED` makes
one of a seed that fails.
"""

from __future__ import annotations

from collections.abc import Mapping

from programs import Attempt, Call, Child, InTime, Keep, Pool, Program, Raise, Sleep, Tasks, Wait

SCHEDULES = 20

KEPT: Mapping[str, Program] = {
    "a synchronous checkpoint holds a loop for as long in a replay (seed 2292)": Program(
        2292,
        True,
        (
            Call(1, "alpha", takes_seconds=2.0),
            Tasks(
                2,
                (
                    (
                        Call(3, "gamma", takes_seconds=2.0),
                        InTime(4, Call(5, "alpha", is_async=True), 0.5),
                        Call(6, "beta", is_async=True),
                    ),
                    (Call(7, "beta", is_async=True, takes_seconds=2.0),),
                ),
                "gather",
            ),
            Call(8, "gamma", is_async=True),
        ),
    ),
    "the time between two attempts counts in both (seed 3309)": Program(
        3309,
        True,
        (
            Call(1, "beta", is_async=True, takes_seconds=0.5),
            Attempt(
                2,
                (
                    InTime(
                        6,
                        Call(3, "gamma", retries=1, fails=3, backoff_seconds=20.0, is_async=True, takes_seconds=5.0),
                        30.0,
                    ),
                ),
                (),
            ),
            Call(4, "alpha", is_async=True, takes_seconds=2.0),
            Call(5, "beta", is_async=True),
        ),
    ),
    "an answer that nobody can take yet does not keep a pause from passing (seed 1868)": Program(
        1868,
        True,
        (
            Tasks(
                1,
                (
                    (Wait(2, "ask1"),),
                    (Wait(3, "ask2"), Call(4, "alpha", retries=2, fails=2, backoff_seconds=20.0)),
                ),
                "gather",
            ),
        ),
    ),
    "a child's end has its turn among the other outcomes": Program(
        1,
        True,
        (
            Tasks(
                1,
                (
                    (Child(2, "child", False, (Call(3, "alpha", takes_seconds=0.5),), "run", "wait"),),
                    (Call(4, "beta", is_async=True, takes_seconds=2.0),),
                    (Call(5, "gamma", is_async=True, takes_seconds=0.5), Raise(6)),
                ),
                "race",
            ),
            Call(7, "alpha", is_async=True),
        ),
    ),
    "a time-out has its turn among the other outcomes": Program(
        2,
        True,
        (
            Tasks(
                1,
                (
                    (InTime(2, Call(3, "alpha", is_async=True, takes_seconds=5.0), 3.0),),
                    (
                        Call(4, "beta", is_async=True, takes_seconds=2.0),
                        Call(5, "gamma", is_async=True, takes_seconds=2.0),
                    ),
                ),
                "first",
            ),
            Call(6, "alpha", is_async=True),
        ),
    ),
    "a time-out counts from where it began, and not from the outcome before (seed 500235)": Program(
        500235,
        True,
        (
            Tasks(
                1,
                (
                    (
                        Tasks(
                            2,
                            (
                                (Call(4, "gamma"), Sleep(5, 3.0)),
                                (Pool(13, ((Keep(14, "log"),), (Wait(15, "ask3"),)), 2),),
                            ),
                            "race",
                        ),
                    ),
                    (InTime(18, Call(19, "gamma", is_async=True), 3.0),),
                ),
                "gather",
                1,
            ),
            Wait(32, "ask4"),
        ),
    ),
    "the same behind a child that was started (seed 601527)": Program(
        601527,
        True,
        (
            Child(
                2,
                "child",
                False,
                (Call(4, "gamma", takes_seconds=0.5), Call(4, "gamma")),
                "run",
                "get",
                (
                    InTime(7, Call(8, "alpha", is_async=True), 0.5),
                    InTime(9, Call(10, "gamma", is_async=True), 0.5),
                ),
            ),
        ),
    ),
}
