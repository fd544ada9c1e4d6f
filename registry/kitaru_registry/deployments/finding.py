"""Flows, versions and tags that are there, and what to say of those that are not."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.engine import Connection

from kitaru_registry.clock import as_datetime
from kitaru_registry.database.opening import Database
from kitaru_registry.database.tables import executions, flows, tags, versions
from kitaru_registry.deployments.refs import DEFAULT_TAG, FlowRef
from kitaru_registry.errors import KitaruNotFoundError, KitaruUsageError
from kitaru_registry.models import Digest, Routes, SnapshotConfig, Version
from kitaru_registry.names import nearest
from kitaru_registry.records.states import OPEN

NAMES_SHOWN = 10


@dataclass(frozen=True)
class FlowRow:
    id: int
    project: str
    flow: str


@dataclass(frozen=True)
class VersionRow:
    """A version that is not deleted."""

    id: int
    number: int
    digest: Digest
    config: dict[str, Any]
    created_us: int

    @property
    def name(self) -> str:
        return f"v{self.number}"

    @property
    def snapshot(self) -> SnapshotConfig:
        return SnapshotConfig.model_validate(self.config)


@dataclass(frozen=True)
class Resolved:
    row: int
    """The version's own row, for a later check that it was not deleted meanwhile."""
    version: Version
    tag: str | None
    """The tag that led there, if one did."""
    config: SnapshotConfig


def find_flow(connection: Connection, flow: str, *, project: str) -> FlowRow:
    """
    Raises:
        KitaruNotFoundError: no such flow; says which there are.
    """
    row = connection.execute(select(flows.c.id).where(flows.c.project == project, flows.c.name == flow)).first()
    if row is None:
        missing_flow(connection, flow, project)
    return FlowRow(row.id, project, flow)


def find_version(connection: Connection, flow: FlowRow, number: int) -> VersionRow:
    """
    Raises:
        KitaruNotFoundError: no such version, or it was deleted; says which there are.
    """
    found = live_versions(connection, flow, versions.c.number == number)
    if not found:
        missing_version(connection, flow, number)
    return found[0]


def find_digest(connection: Connection, flow: FlowRow, prefix: str) -> VersionRow:
    """
    Raises:
        KitaruNotFoundError: no version's digest begins so; says which versions there are.
        KitaruUsageError: more than one does.
    """
    found = live_versions(connection, flow, versions.c.digest.startswith(prefix, autoescape=True))
    if len(found) == 1:
        return found[0]
    if found:
        candidates = ", ".join(row.name for row in found)
        raise KitaruUsageError(f"{prefix} begins the digests of {candidates} of {flow.flow}", hint="give more digits")
    raise KitaruNotFoundError(
        f"no version of {flow.flow} has the digest {prefix}; {there_are('version', version_names(connection, flow))}",
        hint=f"kitaru versions list {flow.flow}",
    )


def find_routes(connection: Connection, flow: FlowRow, tag: str) -> Routes:
    """
    Raises:
        KitaruNotFoundError: no such tag; says which there are.
    """
    routes: Routes | None = connection.execute(
        select(tags.c.routes).where(tags.c.flow_id == flow.id, tags.c.name == tag)
    ).scalar_one_or_none()
    if routes is None:
        missing_tag(connection, flow, tag)
    return routes


def live_versions(connection: Connection, flow: FlowRow, *where: ColumnElement[bool]) -> list[VersionRow]:
    """Newest first."""
    rows = connection.execute(
        select(versions.c.id, versions.c.number, versions.c.digest, versions.c.config, versions.c.created_us)
        .where(versions.c.flow_id == flow.id, versions.c.deleted_us.is_(None), *where)
        .order_by(versions.c.number.desc())
    )
    return [VersionRow(*row) for row in rows]


def routed_version(routes: Routes) -> int:
    """The number of the one version that a tag routes to; this release has no splits."""
    (name,) = routes
    return int(name.removeprefix("v"))


def tags_by_version(connection: Connection, flow: FlowRow) -> dict[int, tuple[str, ...]]:
    found: dict[int, list[str]] = {}
    rows = connection.execute(select(tags.c.name, tags.c.routes).where(tags.c.flow_id == flow.id).order_by(tags.c.name))
    for name, routes in rows:
        found.setdefault(routed_version(routes), []).append(name)
    return {number: tuple(names) for number, names in found.items()}


def count_open(connection: Connection, flow: FlowRow, numbers: Collection[int]) -> int:
    """How many executions of these versions have not ended; child flows that run on their snapshots included."""
    digests = select(versions.c.digest).where(versions.c.flow_id == flow.id, versions.c.number.in_(numbers))
    own = and_(executions.c.flow == flow.flow, executions.c.version.in_(numbers))
    children = and_(executions.c.version.is_(None), executions.c.digest.in_(digests))
    return connection.execute(
        select(func.count()).where(
            executions.c.project == flow.project, executions.c.status.in_(OPEN), or_(own, children)
        )
    ).scalar_one()


def as_version(connection: Connection, flow: FlowRow, row: VersionRow) -> Version:
    return Version(
        project=flow.project,
        flow=flow.flow,
        version=row.number,
        digest=row.digest,
        created_at=as_datetime(row.created_us),
        tags=tags_by_version(connection, flow).get(row.number, ()),
    )


def find_named_flow(connection: Connection, flow: str | None, *, project: str) -> FlowRow:
    """The flow of that name; without one, the project's only flow.

    Raises:
        KitaruNotFoundError: no such flow, or none at all.
        KitaruUsageError: none is named, and there are several.
    """
    if flow is not None:
        return find_flow(connection, flow, project=project)
    there = connection.execute(
        select(flows.c.id, flows.c.project, flows.c.name).where(flows.c.project == project).order_by(flows.c.id.desc())
    ).all()
    if len(there) == 1:
        return FlowRow(*there[0])
    if not there:
        raise KitaruNotFoundError(f"there is no flow in project {project}", hint="kitaru deploy path.py:flow")
    raise KitaruUsageError(
        f"which flow? project {project} has {', '.join(row.name for row in there)}",
        hint="name it: FLOW@TAG, or --flow FLOW",
    )


def resolve(database: Database, ref: FlowRef, *, project: str) -> tuple[Version, str | None]:
    """The version that `ref` means now, and the tag that led there.

    Raises:
        KitaruNotFoundError: no such flow, tag, version or digest; says what there is.
    """
    with database.read() as connection:
        resolved = resolve_on(connection, ref, project=project)
    return resolved.version, resolved.tag


def resolve_on(connection: Connection, ref: FlowRef, *, project: str) -> Resolved:
    """`resolve` within a transaction of the caller's, with the snapshot's config."""
    flow = find_flow(connection, ref.flow, project=ref.project or project)
    selector, tag = ref.selector, None
    if selector.digest is not None:
        row = find_digest(connection, flow, selector.digest)
    elif selector.version is not None:
        row = find_version(connection, flow, selector.version)
    else:
        tag = selector.tag or DEFAULT_TAG
        row = find_version(connection, flow, routed_version(find_routes(connection, flow, tag)))
    return Resolved(row.id, as_version(connection, flow, row), tag, row.snapshot)


def missing_flow(connection: Connection, flow: str, project: str) -> NoReturn:
    known = connection.execute(select(flows.c.name).where(flows.c.project == project).order_by(flows.c.name))
    elsewhere = connection.execute(select(flows.c.project).where(flows.c.name == flow).order_by(flows.c.project))
    names, projects = known.scalars().all(), elsewhere.scalars().all()
    message = f"there is no flow {flow} in project {project}; {there_are('flow', names, like=flow)}"
    if projects:
        raise KitaruNotFoundError(message, hint=f"project {projects[0]} has one: {projects[0]}/{flow}")
    raise KitaruNotFoundError(message, hint="kitaru flows" if names else "kitaru deploy path.py:flow")


def missing_version(connection: Connection, flow: FlowRow, number: int) -> NoReturn:
    ever = connection.execute(
        select(versions.c.id).where(versions.c.flow_id == flow.id, versions.c.number == number)
    ).first()
    what = f"v{number} of {flow.flow} was deleted" if ever else f"{flow.flow} has no v{number}"
    raise KitaruNotFoundError(
        f"{what}; {there_are('version', version_names(connection, flow))}", hint=f"kitaru versions list {flow.flow}"
    )


def missing_tag(connection: Connection, flow: FlowRow, tag: str) -> NoReturn:
    names = connection.execute(select(tags.c.name).where(tags.c.flow_id == flow.id).order_by(tags.c.name))
    raise KitaruNotFoundError(
        f"{flow.flow} has no tag {tag}; {there_are('tag', names.scalars().all(), like=tag)}",
        hint=f"kitaru tag list --flow {flow.flow}",
    )


def version_names(connection: Connection, flow: FlowRow) -> list[str]:
    return [row.name for row in live_versions(connection, flow)]


def there_are(kind: str, names: Sequence[str], *, like: str | None = None) -> str:
    """What there is instead: `there are the tags default, stable; did you mean stable?`"""
    if not names:
        return f"there is no {kind} at all"
    shown = ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")
    near = nearest(like, names) if like is not None else None
    counted = f"there is the {kind} {shown}" if len(names) == 1 else f"there are the {kind}s {shown}"
    return counted + (f"; did you mean {near}?" if near else "")
