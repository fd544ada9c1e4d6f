"""Divergences that somebody accepted: the execution goes on with the call that was found."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy.engine import Connection

from kitaru_registry.clock import now_us
from kitaru_registry.database.tables import journal
from kitaru_registry.errors import KitaruConflictError, KitaruStateError
from kitaru_registry.executions.retrying import last_seq, let_go_on


def accept_on(connection: Connection, row: Any, key: str, *, actor: str, reason: str) -> None:
    """Let a diverged execution go on with the call of that key; the journal says so.

    From that call on, its scope is no longer compared with the journal. What is recorded under the keys of later calls
    is still their outcome.

    Raises:
        See divergence_of.
    """
    scope, place = divergence_of(row, key)
    said = {"scope": scope, "place": place, "key": key, "reason": reason, "actor": actor}
    connection.execute(
        journal.insert().values(
            execution=row.id, seq=last_seq(connection, row.id) + 1, kind="a", key="accept", attempt=row.attempt,
            metadata=json.dumps(said), ended_us=now_us(),
        )
    )  # fmt: skip
    let_go_on(connection, row)


def divergence_of(row: Any, key: str) -> tuple[str, int]:
    """Scope and place of the call that was found.

    Raises:
        KitaruStateError: it did not end at a divergence.
        KitaruConflictError: it was another call than `key` that was found there.
    """
    status, error, exec_id = row.status, row.error or {}, row.exec_id
    if status != "failed" or error.get("origin") != "divergence" or "place" not in error:
        raise KitaruStateError(
            f"execution {exec_id} is {status}, and not because its code went another way: there is nothing to accept",
            hint=f"kitaru executions get {exec_id}",
        )
    if error.get("checkpoint") != key:
        raise KitaruConflictError(
            f"execution {exec_id} stopped at the call {error.get('checkpoint')}, not at {key}",
            hint=f"kitaru executions resume {exec_id} --accept {error.get('checkpoint')} --reason ...",
        )
    return str(error["scope"]), int(error["place"])
