"""`python -m kitaru_runner`: the runner (worker.py), quickly started."""

from __future__ import annotations

from kitaru_registry.collecting import collect_rarely


def main() -> None:
    collect_rarely()
    from kitaru_runner.host.worker import main

    main()


if __name__ == "__main__":
    main()
