"""`python -m kitaru.resuming EXEC_ID`: go on with a source execution in this process."""

from __future__ import annotations

import sys
from pathlib import Path

from kitaru.client import KitaruClient
from kitaru.running import resume_here
from kitaru_registry.errors import KitaruError


def main() -> None:
    client = KitaruClient(cwd=Path.cwd())
    try:
        handle = resume_here(client, client.executions.get(sys.argv[1]))
        handle.wait()
    except KitaruError as error:
        sys.exit(f"kitaru: {error.message}")


if __name__ == "__main__":
    main()
