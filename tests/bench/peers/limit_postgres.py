"""The machine's limit: one row a commit into Postgres over its unix socket."""

from __future__ import annotations

import os
from argparse import Namespace

import psycopg
from program import STEPS, Clock, main, postgres_durability


def setup(given: Namespace) -> None:
    with psycopg.connect(given.store) as connection:
        connection.execute("CREATE TABLE rows (id bigserial PRIMARY KEY, data bytea)")


def steps(given: Namespace) -> dict[str, object]:
    took, row = [], os.urandom(120)
    with psycopg.connect(given.store, autocommit=True) as connection:
        clock = Clock()
        for _ in range(STEPS):
            connection.execute("INSERT INTO rows (data) VALUES (%s)", (row,))
            took.append(clock.lap())
    return {"ms": took, "durability": postgres_durability(given.store)}


if __name__ == "__main__":
    main({"setup": setup, "steps": steps})
