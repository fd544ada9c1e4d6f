"""What every measured program has in common. Standard library alone: each runs in an environment of its own.

    python peer_NAME.py ACTION --store WHERE --folder NOTES [--flavour WHICH]     prints one line of JSON, at the end

`steps`, `concurrent`, `large` and `invoke` give {"ms": [...]}, and `steps` "bytes" and "durability" too. `setup` is not
timed. `begin` kills itself at step 990, `resume` brings that to its end, `serve` works until it is ended.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

STEPS = 1000
KILLED_AT = 990
CONCURRENT = 100
PAUSE_SECONDS = 0.010
LARGE = 10 << 20
INVOKES = 10

Actions = Mapping[str, Callable[[argparse.Namespace], Any]]


def main(actions: Actions) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("action", choices=sorted(actions))
    parser.add_argument("--store", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--flavour")
    given = parser.parse_args()
    print(json.dumps(actions[given.action](given)), flush=True)


def step(number: int) -> dict[str, object]:
    """The no-op that is made durable, of the size that Kitaru's is measured with."""
    return {"number": number, "ok": True}


def noted(number: int, notes: str) -> dict[str, object]:
    """A step that notes, outside of the record, that it executes; kills its process once, where a note asks for it."""
    with Path(notes, "executed").open("a") as file:
        file.write(f"{number}\n")
    order = Path(notes, f"kill-{number}")
    if order.exists():
        order.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"number": number, "ok": True}


def content(size: int) -> bytes:
    return os.urandom(1 << 10) * (size >> 10)


class Clock:
    """Milliseconds since it was made, or since it was asked last."""

    def __init__(self) -> None:
        self._seen = time.perf_counter()

    def lap(self) -> float:
        before, self._seen = self._seen, time.perf_counter()
        return (self._seen - before) * 1000


def sqlite_bytes(path: str) -> int:
    """What the record takes, without pages that are free."""
    connection = sqlite3.connect(path)
    try:
        pages, free, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
    finally:
        connection.close()
    return (pages - free) * size


def sqlite_durability(synchronous: int, journal_mode: str) -> str:
    return f"{('OFF', 'NORMAL', 'FULL', 'EXTRA')[synchronous]}, journal {journal_mode}"


def postgres_bytes(url: str) -> int:
    """What the tables and their indexes take, without rows that are dead."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM FULL")
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    return row[0] if row else 0


def postgres_durability(url: str) -> str:
    import psycopg

    with psycopg.connect(url) as connection:
        fsync, synchronous = (
            (connection.execute(f"SHOW {name}").fetchone() or ["?"])[0] for name in ("fsync", "synchronous_commit")
        )
    return f"fsync {fsync}, synchronous_commit {synchronous}"
