"""What a runner costs that has nothing to do, and how often one reads the record whose execution just works."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from measuring import Figure, Target, report
from places import Place, place
from sqlalchemy import event
from sqlalchemy.engine import Connection

from kitaru_registry.config import RunnerConfig
from kitaru_registry.database.opening import open_database
from kitaru_runner.host import presence
from kitaru_runner.host.worker import Runner

SECONDS = 5.0
ROUNDS = 5


def main() -> None:
    idle = Figure("an idle runner, of a core", unit="%", targets=(Target("value", 0.2),))
    busy = Figure("reads of the record while an execution works", unit="a second", targets=(Target("value", 5),))
    with place(flows=["working"]) as found:
        found.invoke("working", seconds=0.0)
        process = presence.wait_for_runner(found.home).pid
        time.sleep(SECONDS)
        for _ in range(ROUNDS):
            idle.add(100 * share_of_a_core(process))
        found.kitaru("runner", "stop")
        for count in reads_each_second(found):
            busy.add(count)
    report(__file__, [idle, busy])


def share_of_a_core(process: int) -> float:
    before = cpu_seconds(process)
    time.sleep(SECONDS)
    return (cpu_seconds(process) - before) / SECONDS


def cpu_seconds(process: int) -> float:
    """As the kernel's scheduler counts it, in nanoseconds: ticks are too coarse here."""
    threads = Path(f"/proc/{process}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def reads_each_second(found: Place) -> list[float]:
    """Of a runner in this process, so that its transactions can be counted."""
    database = open_database(found.home)
    reads: list[float] = []

    def note(connection: Connection) -> None:
        if not connection.get_execution_options().get("kitaru_write", False):
            reads.append(time.monotonic())

    event.listen(database.engine, "begin", note)
    runner = Runner(found.home, database, RunnerConfig(), version="bench", local=False)
    thread = threading.Thread(target=runner.run)
    thread.start()
    handle = found.client.deployments.invoke(flow="working", inputs={"seconds": (ROUNDS + 2) * SECONDS})
    while handle.status != "running":
        time.sleep(0.01)
    time.sleep(SECONDS)
    counts = []
    for _ in range(ROUNDS):
        began = len(reads)
        time.sleep(SECONDS)
        counts.append((len(reads) - began) / SECONDS)
    runner.stop()
    thread.join()
    runner.close()
    return counts


if __name__ == "__main__":
    os.environ.setdefault("KITARU_ACTOR", "bench")
    main()
