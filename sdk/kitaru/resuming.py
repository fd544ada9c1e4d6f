"""`python -m kitaru.resuming EXEC_ID`: go on with a source execution in this process.

Its stdout and stderr are the execution's log, as those of a deployed flow's process are.
"""

from __future__ import annotations

import sys
from pathlib import Path

from kitaru.client import KitaruClient
from kitaru.running import resume_here
from kitaru_registry.errors import KitaruError
from kitaru_runner import logs


def main() -> None:
    client = KitaruClient(cwd=Path.cwd())
    try:
        execution = client.executions.get(sys.argv[1])
        logs.begin_own(execution.attempt + 1)
        resume_here(client, execution).wait()
    except KitaruError as error:
        sys.exit(f"kitaru: {error.message}")


if __name__ == "__main__":
    main()
