"""`python -m kitaru.resuming EXEC_ID`: go on with a source execution in this process.

Its stdout and stderr are the execution's log, as those of a deployed flow's process are.
"""

from __future__ import annotations

import sys
from pathlib import Path

from kitaru.client import KitaruClient
from kitaru.handle import FlowHandle
from kitaru.running import resume_here
from kitaru_registry.errors import KitaruError
from kitaru_registry.executions import queue
from kitaru_registry.models import ExecutionId
from kitaru_runner.engine.body import output as logs


def main() -> None:
    client = KitaruClient(cwd=Path.cwd())
    handle = begin(client, ExecutionId(sys.argv[1]))
    try:
        handle.wait()
    except KitaruError as error:
        sys.exit(f"kitaru: {error.message}")


def begin(client: KitaruClient, exec_id: ExecutionId) -> FlowHandle:
    """The execution, which goes on in this process. Where it cannot, whoever waits for it hears why."""
    try:
        execution = client.executions.get(exec_id)
        logs.begin_own(execution.attempt + 1)
        return resume_here(client, execution)
    except BaseException as error:
        said = error.message if isinstance(error, KitaruError) else f"{type(error).__name__}: {error}"
        queue.could_not_begin(client.database, exec_id, said)
        if isinstance(error, KitaruError):
            sys.exit(f"kitaru: {said}")
        raise


if __name__ == "__main__":
    main()
