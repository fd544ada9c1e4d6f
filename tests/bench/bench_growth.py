"""Cost as work grows: per checkpoint within one execution, and per invoke, list and claim as executions pile up.

`--long`: up to 100,000.
"""

from __future__ import annotations

import os
from typing import Any

from measuring import Figure, Target, asked_for, milliseconds, report
from places import Place, database_bytes, place

from kitaru_registry.executions import ending, queue

WINDOW = 100
ROUNDS = {1000: 15, 10_000: 7, 100_000: 3}
CALLS = 30
FEW = 100


def checkpoints(found: Place, steps: int) -> list[Figure]:
    """NORMAL: no fsync hides what grows. In several executions: the machine's own pace changes within a second."""
    from flows import resumed, sequential  # type: ignore[import-not-found]  # of the project that was just made

    return [
        *of_flow(sequential, "a checkpoint at {at:,} in one execution, NORMAL", steps),
        *of_flow(resumed, "a recorded checkpoint at {at:,}, in a replay on a loop", steps),
    ]


def of_flow(flow: Any, name: str, steps: int) -> list[Figure]:
    """What the last calls of one execution took beside its first ones."""
    figures = []
    for at, rounds in ROUNDS.items():
        if at > steps:
            continue
        figure = Figure(name.format(at=at), beside="one at 100", targets=(Target("ratio", 1.2),))
        for _ in range(rounds):
            took = flow.run(at).wait()
            figure.add(took[at - WINDOW : at], took[WINDOW : 2 * WINDOW])
        figures.append(figure)
    return figures


def fill(found: Place, count: int) -> None:
    """Copies of a completed execution."""
    with found.client.database.write() as connection:
        names = [row[1] for row in connection.exec_driver_sql("PRAGMA table_info(executions)") if row[1] != "id"]
        values = ", ".join("lower(hex(randomblob(16)))" if name == "exec_id" else name for name in names)
        connection.exec_driver_sql(
            f"WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {count}) "
            f"INSERT INTO executions ({', '.join(names)}) SELECT {values} FROM c, "
            "(SELECT * FROM executions WHERE status = 'completed' ORDER BY id LIMIT 1)"
        )


def calls(found: Place) -> dict[str, list[float]]:
    """Milliseconds of invoking (without a runner), listing and claiming."""
    database, owner = found.client.database, queue.Owner("bench", os.getpid(), "here")
    took: dict[str, list[float]] = {"invoke": [], "list of 50": [], "claim": []}
    for _ in range(CALLS):
        took["invoke"].append(milliseconds(lambda: found.client.deployments.invoke(flow="noop")))
        took["list of 50"].append(milliseconds(lambda: found.client.executions.list(limit=50)))
        claimed: list[Any] = []
        took["claim"].append(
            milliseconds(lambda kept=claimed: kept.append(queue.claim(database, queue.claimable(database)[0], owner)))
        )
        ending.finish(database, claimed[0].row, claimed[0].attempt, result=None, error=None)
    return took


def executions(found: Place, counts: tuple[int, ...]) -> list[Figure]:
    """No runner may take what is invoked here: `[runner] autostart = false`."""
    calls(found)
    fill(found, FEW)
    few = calls(found)
    figures = []
    there = FEW
    for count in counts:
        fill(found, count - there)
        there = count
        for name, took in calls(found).items():
            figure = Figure(
                f"{name} among {count:,} executions",
                beside=f"{name} among {FEW}",
                targets=(Target("ratio", 1.2),),
            )
            figure.add(took, few[name])
            figures.append(figure)
    return figures


def main() -> None:
    long = asked_for("--long")
    with place(synchronous="NORMAL") as found:
        figures = checkpoints(found, 100_000 if long else 10_000)
    with place(synchronous="NORMAL", flows=["noop"]) as found:
        settings = found.project / "kitaru.toml"
        settings.write_text(settings.read_text() + "[runner]\nautostart = false\n")
        figures += executions(found, (10_000, 100_000) if long else (10_000,))
        assert database_bytes(found.home) > 0
    report(__file__, figures)


if __name__ == "__main__":
    main()
