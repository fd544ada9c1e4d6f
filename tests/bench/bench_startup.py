"""Whole processes, bytecode compiled: the library's import and commands beside the imports that they cannot avoid."""

from __future__ import annotations

import sys

from measuring import Figure, Target, report
from places import KITARU, place, process

ROUNDS = 15


def main() -> None:
    python = sys.executable
    with place(flows=["noop"]) as found:
        (found.project / "quiet.py").write_text((found.project / "quiet.py").read_text() + "\n")
        found.deploy("noop")
        bare = (python, "-c", "pass")
        shown = (python, "-c", "import typer, rich.table")
        stored = (python, "-c", "import typer, sqlalchemy")
        compared = [
            (Figure("import kitaru", beside="python -c pass", targets=(Target("more", 60),)),
             (python, "-c", "import kitaru"), bare),
            (Figure("kitaru --help", beside="import typer, rich.table", targets=(Target("ratio", 1.5),)),
             (KITARU, "--help"), shown),
            (Figure("kitaru executions list", beside="import typer, sqlalchemy", targets=(Target("ratio", 1.5),)),
             (KITARU, "executions", "list"), stored),
            (Figure("kitaru tag move", beside="import typer, sqlalchemy", targets=(Target("ratio", 1.5),)),
             (KITARU, "tag", "move", "noop@stable", "v1"), stored),
        ]  # fmt: skip
        for _, command, limit in compared:
            process(*limit, cwd=found.project)
            process(*command, cwd=found.project)
        for number in range(ROUNDS):
            for figure, command, limit in compared:
                beside = process(*limit, cwd=found.project)
                # Each move moves: there and back.
                command = (*command[:-1], f"v{1 + number % 2}") if command[1:2] == ("tag",) else command
                figure.add(process(*command, cwd=found.project), beside)
    report(__file__, [figure for figure, _, _ in compared])


if __name__ == "__main__":
    main()
