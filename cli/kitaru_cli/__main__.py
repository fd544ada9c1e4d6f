"""`kitaru`, and `python -m kitaru_cli`: the command line, with as little as can be around it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from kitaru_registry.collecting import collect_no_more, collect_rarely, collects_rarely


def main() -> None:
    if sys.argv[1:2] == ["run"]:
        from kitaru.hash_seeds import begin_with_seed

        begin_with_seed(sys.argv[1:])
    collect_rarely()
    with suppress(OSError):  # the command says what is wrong
        start_runner(sys.argv[1:])
    from kitaru_cli.main import main

    try:
        main()
    finally:
        # Not where code of the user's has run here: its objects may have something to do at the end.
        if collects_rarely():
            close_databases()
            collect_no_more()


def start_runner(arguments: Sequence[str]) -> None:
    """For a line that will need one, and seems to be whole: the runner takes as long to start as the command does."""
    named, words = tuple(arguments[:2]), set(arguments[1:])
    if len(arguments) < 2 or words & {"--help", "-h"}:
        return
    if named[0] == "invoke":
        from kitaru.early import start_runner_early

        start_runner_early(Path.cwd())
    elif named == ("executions", "resume") and len(arguments) > 2:
        from kitaru.early import start_runner_on_hold

        start_runner_on_hold(Path.cwd())


def close_databases() -> None:
    databases = sys.modules.get("kitaru.databases")
    if databases is not None:
        databases.shared.drop()


if __name__ == "__main__":
    main()
