"""A step that returns 10 MB, in process and deployed, beside a file of that size that is written and synced."""

from __future__ import annotations

import os
from pathlib import Path

from measuring import Figure, Target, milliseconds, report
from places import place

SIZE = 10 << 20
ROUNDS = 7


def write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def main() -> None:
    beside = "write and fsync 10 MB"
    here = Figure("a step of 10 MB, in process", beside=beside, targets=(Target("value", 100),))
    there = Figure("a step of 10 MB, deployed", beside=beside, targets=(Target("value", 100),))
    content = os.urandom(SIZE)
    with place(flows=["returning"]) as found:
        from flows import returning  # type: ignore[import-not-found]  # of the project that was just made

        found.invoke("returning", size=1 << 10)
        for number in range(ROUNDS):
            path = found.home.root / f"raw-{number}"
            limit = milliseconds(lambda path=path: write_synced(path, content))
            here.add(returning.run(SIZE).wait(), limit)
            there.add(found.invoke("returning", size=SIZE), limit)
    report(__file__, [here, there])


if __name__ == "__main__":
    main()
