"""Two executions side by side, across versions too: then what differs in the code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kitaru.changes import changes, of_code
from kitaru_registry.errors import KitaruBackendError, KitaruNotFoundError
from kitaru_registry.executions import replays
from kitaru_registry.executions.differing import difference, recorded
from kitaru_registry.executions.views import ExecutionDiff
from kitaru_registry.models import Digest, SnapshotConfig, Source

if TYPE_CHECKING:
    from kitaru.session import Session

GONE = (KitaruNotFoundError, KitaruBackendError)
"""What a store says that lost a version's code."""


def diff(session: Session, a: str, b: str) -> ExecutionDiff:
    """See Executions.diff."""
    from kitaru.replaying import find_original

    one, other = find_original(session, a), find_original(session, b)
    return difference(
        recorded(one.row, one.known),
        recorded(other.row, other.known),
        lambda value: replays.read_value(session.database, value),
        code=code_changes(session, one.row, other.row),
    )


def code_changes(session: Session, a: Any, b: Any) -> tuple[str, ...]:
    if a.digest == b.digest and a.source == b.source:
        return ()
    try:
        before, files_before = code_of(session, a)
        after, files_after = code_of(session, b)
    except GONE as error:
        return (f"the code cannot be compared: {error.message}",)
    if before is not None and after is not None:
        return changes(before, after, files_before=files_before, files_after=files_after)
    return tuple(of_code(files_before, files_after))


def code_of(session: Session, row: Any) -> tuple[SnapshotConfig | None, dict[str, str]]:
    """The snapshot's config, if one stands behind it, and path to sha256 of every file."""
    from kitaru.deploying import contents
    from kitaru_registry.snapshots.artifact import fetch_code, read_config

    if row.digest is None:
        return None, Source.model_validate(row.source).files if row.source else {}
    config = read_config(session.layout, Digest(row.digest))
    return config, {path: said.split()[-1] for path, said in contents(fetch_code(session.layout, config)).items()}
