"""What an artifact was made from, and what was made from it: over the journal's `parents`, and by equal bytes.

A call's `parents` are the keys of outcomes of its own execution, and the ids of artifacts of others, that were passed
to it or loaded in it. What the call gave, and what it saved, was made from those.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import or_, select
from sqlalchemy.engine import Connection

from kitaru_registry.database.opening import Database
from kitaru_registry.database.tables import executions, journal
from kitaru_registry.errors import KitaruUsageError
from kitaru_registry.executions.artifacts import Found, Wanted, bytes_of, find, get_found, recorded
from kitaru_registry.executions.values import values_of
from kitaru_registry.models import Artifact, Lineage, LineageLink
from kitaru_registry.records.values import Values

SHORTEST_BYTES = 16
"""Shorter values are equal by chance."""

LONGEST_TREE = 500
"""Links; what is further away is left out."""

DEEPEST_TREE = 100

SAME_BYTES_SHOWN = 20
EXEC_ID_LENGTH = 36


def trace(database: Database, artifact_id: str, *, direction: str = "up", depth: int | None = None) -> Lineage:
    """The tree above or below an artifact, across executions.

    Args:
        direction: `up`: what it was made from; `down`: what was made from it.
        depth: how many links from it; at most, and by default, 100.

    Raises:
        KitaruNotFoundError: there is no such artifact.
        KitaruUsageError: another direction.
    """
    if direction not in ("up", "down"):
        raise KitaruUsageError(f"lineage has no direction {direction}", hint="up or down")
    found = get_found(database, artifact_id)
    with database.read() as connection:
        graph = Graph(connection, values_of(database))
        walk = Walk(graph, up=direction == "up")
        links = walk.links_of(found.artifact.artifact_id, min(depth or DEEPEST_TREE, DEEPEST_TREE))
    return Lineage(
        artifact=found.artifact, direction=direction, links=links, same_bytes=tuple(same_bytes(database, found))
    )


def same_bytes(database: Database, found: Found) -> list[Artifact]:
    """Other artifacts of the same content in its project, the newest first."""
    artifact = found.artifact
    if not artifact.is_kept or artifact.size is None or artifact.size < SHORTEST_BYTES:
        return []
    with database.read() as connection:
        project = connection.execute(select(executions.c.project).where(executions.c.id == found.row)).scalar_one()
        store = values_of(database)
        digest = bytes.fromhex(artifact.digest.partition(":")[2])
        data = bytes_of(database, found) if found.data is not None else None
        wanted = Wanted(project=project, digest=digest, data=data)
        others = [other.artifact for other in find(connection, store, wanted, limit=SAME_BYTES_SHOWN + 1)]
    return [a for a in others if a.artifact_id != artifact.artifact_id and a.codec == artifact.codec][:SAME_BYTES_SHOWN]


@dataclass
class Places:
    """The artifacts of one execution, and what each was made from."""

    artifacts: dict[str, Artifact] = field(default_factory=dict)
    by_key: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    parents: dict[str, list[str]] = field(default_factory=dict)
    """Of an artifact's id: ids."""
    results: dict[str, list[str]] = field(default_factory=dict)
    """Of the result's id: the outputs that it is, by their bytes."""


class Graph:
    """Executions' artifacts, each execution read once."""

    def __init__(self, connection: Connection, store: Values) -> None:
        self._connection = connection
        self._store = store
        self._known: dict[str, Places] = {}
        self._users: dict[str, list[str]] = {}

    def artifact(self, ref: str) -> Artifact | None:
        return self.places(ref).artifacts.get(ref)

    def above(self, ref: str) -> list[tuple[str, str]]:
        """Ids, and how each belongs to this one."""
        places = self.places(ref)
        same = [(other, "same bytes") for other in places.results.get(ref, ())]
        return [*((parent, "passed") for parent in places.parents.get(ref, ())), *same]

    def below(self, ref: str) -> list[tuple[str, str]]:
        places = self.places(ref)
        found = [(own, "passed") for own, parents in places.parents.items() if ref in parents]
        found += [(result, "same bytes") for result, outputs in places.results.items() if ref in outputs]
        for exec_id in self._users_of(ref):
            other = self.places(exec_id)
            found += [(own, "passed") for own, parents in other.parents.items() if ref in parents]
        return found

    def places(self, ref: str) -> Places:
        exec_id = ref[:EXEC_ID_LENGTH]
        if exec_id not in self._known:
            self._known[exec_id] = self._read(exec_id)
        return self._known[exec_id]

    def _read(self, exec_id: str) -> Places:
        places = Places()
        row = self._connection.execute(
            select(executions.c.id).where(executions.c.exec_id == exec_id, executions.c.deleted_us.is_(None))
        ).scalar_one_or_none()
        if row is None:
            return places
        for item in recorded(find(self._connection, self._store, Wanted(execution=row))):
            places.artifacts[item.artifact.artifact_id] = item.artifact
            places.by_key[item.key].append(item.artifact.artifact_id)
        for key, parents in self._parents(row):
            named = [self._id_of(exec_id, parent) for parent in parents]
            for own in places.by_key.get(key, ()):
                places.parents[own] = named
        result = places.artifacts.get(exec_id)
        if result is not None and (result.size or 0) >= SHORTEST_BYTES:
            same = [a.artifact_id for a in places.artifacts.values() if a.digest == result.digest and a is not result]
            places.results[exec_id] = same
        return places

    def _parents(self, row: int) -> Iterable[tuple[str, list[str]]]:
        wanted = select(journal.c.key, journal.c.parents).where(
            journal.c.execution == row, journal.c.parents.is_not(None), journal.c.kind.in_(("c", "s"))
        )
        for found in self._connection.execute(wanted.order_by(journal.c.seq)):
            yield found.key, json.loads(found.parents)

    def _users_of(self, ref: str) -> list[str]:
        """Other executions in which a call got something of this one's execution."""
        exec_id = ref[:EXEC_ID_LENGTH]
        whole = journal.c.parents.contains(f'"{exec_id}"', autoescape=True)
        part = journal.c.parents.contains(f'"{exec_id}/', autoescape=True)
        wanted = (
            select(executions.c.exec_id)
            .distinct()
            .join(journal, journal.c.execution == executions.c.id)
            .where(journal.c.parents.is_not(None), or_(whole, part), executions.c.exec_id != exec_id)
        )
        if exec_id not in self._users:
            self._users[exec_id] = list(self._connection.execute(wanted).scalars())
        return self._users[exec_id]

    @staticmethod
    def _id_of(exec_id: str, parent: str) -> str:
        """A parent's id: that of another execution's artifact is said in full."""
        return parent if is_artifact_id(parent) else f"{exec_id}/{parent}"


class Walk:
    """A walk along the links, each artifact's once."""

    def __init__(self, graph: Graph, *, up: bool) -> None:
        self._graph = graph
        self._next = graph.above if up else graph.below
        self._seen: set[str] = set()
        self._count = 0

    def links_of(self, ref: str, depth: int) -> tuple[LineageLink, ...]:
        self._seen.add(ref)
        if depth <= 0:
            return ()
        return tuple(self._link(other, relation, depth) for other, relation in self._ahead(ref))

    def _ahead(self, ref: str) -> list[tuple[str, str]]:
        ahead = list(dict.fromkeys(self._next(ref)))[: max(0, LONGEST_TREE - self._count)]
        self._count += len(ahead)
        return ahead

    def _link(self, ref: str, relation: str, depth: int) -> LineageLink:
        repeated = ref in self._seen
        links = () if repeated else self.links_of(ref, depth - 1)
        artifact = self._graph.artifact(ref)
        return LineageLink(ref=ref, artifact=artifact, relation=relation, links=links, is_repeated=repeated)


def is_artifact_id(text: str) -> bool:
    """Whether it begins with an execution's id."""
    head = text[:EXEC_ID_LENGTH]
    return len(head) == EXEC_ID_LENGTH and [len(part) for part in head.split("-")] == [8, 4, 4, 4, 12]
