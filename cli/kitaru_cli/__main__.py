"""`kitaru`, and `python -m kitaru_cli`: the command line, with as little as can be around it."""

from __future__ import annotations

import sys

from kitaru_registry.collecting import collect_no_more, collect_rarely, collects_rarely


def main() -> None:
    collect_rarely()
    from kitaru_cli.main import main

    try:
        main()
    finally:
        # Not where code of the user's has run here: its objects may have something to do at the end.
        if collects_rarely():
            close_databases()
            collect_no_more()


def close_databases() -> None:
    client = sys.modules.get("kitaru.client")
    if client is not None:
        client.close_databases()


if __name__ == "__main__":
    main()
