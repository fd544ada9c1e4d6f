"""`kitaru deploy` after an edit of one line, dependencies unchanged, and what it adds to the store."""

from __future__ import annotations

import sys

from measuring import Figure, Target, report
from places import KITARU, commit_all, place, process

ROUNDS = 7


def main() -> None:
    took = Figure(
        "kitaru deploy after a one-line edit", beside="import typer, sqlalchemy", targets=(Target("value", 1500),)
    )
    added = Figure("blobs that it adds: code and config", unit="blobs", targets=(Target("value", 2),))
    with place(flows=["noop"]) as found:
        source = found.project / "quiet.py"
        for number in range(ROUNDS):
            source.write_text(source.read_text() + f"EDIT = {number}\n")
            if number % 2:
                commit_all(found.project)
            limit = process(sys.executable, "-c", "import typer, sqlalchemy")
            before = blobs(found.home.layout)
            took.add(process(KITARU, "deploy", "quiet.py:noop", cwd=found.project), limit)
            # The manifest, which names the two, is one more file.
            added.add(blobs(found.home.layout) - before - 1)
    report(__file__, [took, added])


def blobs(layout: object) -> int:
    from pathlib import Path

    return sum(1 for _ in Path(str(layout), "blobs", "sha256").iterdir())


if __name__ == "__main__":
    main()
