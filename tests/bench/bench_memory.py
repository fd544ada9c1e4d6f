"""What is held: on disk of a value that is handed on, and in memory of a very long journal that goes on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from measuring import Figure, Target, report
from places import KITARU, PATIENCE_SECONDS, Place, database_bytes, place

SIZE = 10 << 20
CHILDREN = 4
STEPS = 200_000
ISOLATED = 40 << 20
ROUNDS = 5
HALF_OF_0_2 = {"runner": 121, "child": 92}
"""Half of the megabytes that release 0.2 took in its first days: 242 and 184."""


def bytes_in(found: Place) -> int:
    values = (path.stat().st_size for path in found.home.values.rglob("*") if path.is_file())
    return sum(values) + database_bytes(found.home)


def handed_on(found: Place) -> Figure:
    from flows import handing_on  # type: ignore[import-not-found]  # of the project that was just made

    handing_on.run(1 << 10, CHILDREN).wait(PATIENCE_SECONDS)
    figure = Figure(
        f"bytes in the home for 10 MB that go to {CHILDREN} children", unit="MB", beside="10 MB",
        targets=(Target("ratio", 1.01),),
    )  # fmt: skip
    for _ in range(ROUNDS):
        before = bytes_in(found)
        handing_on.run(SIZE, CHILDREN).wait(PATIENCE_SECONDS)
        figure.add((bytes_in(found) - before) / 1e6, SIZE / 1e6)
    return figure


def isolated(found: Place) -> Figure:
    from flows import returning, returning_isolated

    figure = Figure("an isolated step of 40 MB", beside="one in process", targets=(Target("ratio", 2),))
    for _ in range(ROUNDS):
        figure.add(returning_isolated.run(ISOLATED).wait(), returning.run(ISOLATED).wait())
    return figure


def resumed(found: Place) -> list[Figure]:
    """Megabytes at most, of a runner and a child that go on behind so many recorded checkpoints."""
    handle = found.client.deployments.invoke(flow="waiting", inputs={"steps": STEPS})
    while handle.status != "waiting":
        time.sleep(0.5)
    found.kitaru("runner", "stop")
    runner = subprocess.Popen([sys.executable, "-P", "-m", "kitaru_runner", "--local"], cwd=found.project)
    peaks = {"runner": 0.0, "child": 0.0}
    answer = [KITARU, "waits", "answer", handle.exec_id, "go", "--value", "true"]
    answering = subprocess.Popen(answer, cwd=found.project, stdout=subprocess.DEVNULL)
    while handle.status != "completed":
        peaks["runner"] = max(peaks["runner"], peak(runner.pid))
        for pid in children_of(runner.pid):
            peaks["child"] = max(peaks["child"], peak(pid))
        time.sleep(0.02)
    answering.wait()
    runner.terminate()
    runner.wait()
    figures = []
    for who, most in peaks.items():
        figure = Figure(
            f"memory of a {who} that resumes a journal of {STEPS:,}", unit="MB",
            targets=(Target("value", HALF_OF_0_2[who]),),
        )  # fmt: skip
        figure.add(most)
        figures.append(figure)
    return figures


def peak(pid: int) -> float:
    try:
        found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found.group(1)) / 1024 if found else 0.0


def children_of(pid: int) -> list[int]:
    try:
        listed = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    return [int(each) for text in listed for each in text.split()]


def main() -> None:
    with place() as found:
        figures = [handed_on(found), isolated(found)]
    with place(synchronous="NORMAL", flows=["waiting"]) as found:
        os.environ["KITARU_HOME"] = str(found.home.root)
        figures += resumed(found)
    report(__file__, figures)


if __name__ == "__main__":
    main()
