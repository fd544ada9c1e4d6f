"""Immutable versions of a flow: v1, v2, ... of a snapshot's digest each; a number is given out once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.engine import Connection, Row

from kitaru_registry.clock import as_datetime, now_us
from kitaru_registry.database.opening import Database
from kitaru_registry.database.tables import deploy_events, flows, tags, versions
from kitaru_registry.deployments.finding import (
    FlowRow,
    VersionRow,
    as_version,
    count_open,
    find_flow,
    find_version,
    live_versions,
    resolve_on,
    tags_by_version,
)
from kitaru_registry.deployments.refs import DEFAULT_TAG, FlowRef
from kitaru_registry.deployments.tags import Author, move_on, require_movable
from kitaru_registry.errors import KitaruConflictError
from kitaru_registry.models import (
    DeployEvent,
    Digest,
    FlowSummary,
    GitFacts,
    Origin,
    SnapshotConfig,
    Version,
    VersionDetail,
)
from kitaru_registry.names import check_name
from kitaru_registry.records.answers import Registered


def register(
    database: Database,
    *,
    project: str,
    flow: str,
    origin: Origin,
    digest: Digest,
    config: SnapshotConfig,
    git: GitFacts | None,
    actor: str,
    tag: str | None = None,
    adopt: bool = False,
) -> Registered:
    """The flow's version of this digest, new or found, with one more deploy event, in one transaction.

    Args:
        adopt: take over a flow name that another origin holds.
        tag: move it to the version too.

    Raises:
        KitaruConflictError: another origin holds the flow's name.
        KitaruStateError: the tag is frozen.
    """
    check_name("project", project)
    check_name("flow", flow)
    if tag is not None:
        check_name("tag", tag)
    author = Author(actor, commit=git.commit if git else None)
    with database.write(flow=f"{project}/{flow}") as connection:
        key = claim_name(connection, project, flow, origin, adopt=adopt)
        row, created = version_of(connection, key, digest, config)
        connection.execute(
            deploy_events.insert().values(
                version_id=row.id,
                git=git.model_dump(mode="json") if git else None,
                actor=actor,
                created=created,
                at_us=now_us(),
            )
        )
        wanted = ([DEFAULT_TAG] if created and row.number == 1 else []) + ([tag] if tag else [])
        moves = [
            move_on(connection, key, name, {row.name: 100}, author, kind="deploy") for name in dict.fromkeys(wanted)
        ]
        return Registered(version=as_version(connection, key, row), created=created, moves=tuple(moves))


def claim_name(connection: Connection, project: str, flow: str, origin: Origin, *, adopt: bool) -> FlowRow:
    row = connection.execute(select(flows).where(flows.c.project == project, flows.c.name == flow)).first()
    if row is None:
        insert = flows.insert().values(
            project=project, name=flow, origin=origin.model_dump(mode="json"), last_version=0, created_us=now_us()
        )
        return FlowRow(connection.execute(insert.returning(flows.c.id)).scalar_one(), project, flow)
    holder = Origin.model_validate(row.origin)
    if not adopt and not origin.is_same(holder):
        raise held_elsewhere(flow, project, holder, origin)
    # What a shallow clone or a folder without a remote cannot say of the same origin is kept.
    known = holder if origin.is_same(holder) else origin
    latest = Origin(
        remote=origin.remote or known.remote,
        root_commit=origin.root_commit or known.root_commit,
        folder=origin.folder,
        prefix=origin.prefix,
    )
    if latest != holder:
        connection.execute(update(flows).where(flows.c.id == row.id).values(origin=latest.model_dump(mode="json")))
    return FlowRow(row.id, project, flow)


def held_elsewhere(flow: str, project: str, holder: Origin, origin: Origin) -> KitaruConflictError:
    return KitaruConflictError(
        f"the flow name {flow} of project {project} belongs to {holder.remote or holder.folder}, "
        f"and this is {origin.remote or origin.folder}",
        hint="rename the flow, give this one a project of its own in kitaru.toml, or take the name over: --adopt",
    )


def version_of(
    connection: Connection, flow: FlowRow, digest: Digest, config: SnapshotConfig
) -> tuple[VersionRow, bool]:
    found = live_versions(connection, flow, versions.c.digest == digest)
    if found:
        return found[0], False
    number = connection.execute(
        update(flows)
        .where(flows.c.id == flow.id)
        .values(last_version=flows.c.last_version + 1)
        .returning(flows.c.last_version)
    ).scalar_one()
    connection.execute(
        versions.insert().values(
            flow_id=flow.id,
            number=number,
            digest=digest,
            config=config.model_dump(mode="json", by_alias=True),
            created_us=now_us(),
        )
    )
    return find_version(connection, flow, number), True


def list_flows(database: Database, *, project: str) -> list[FlowSummary]:
    """The flows of a project, newest first."""
    with database.read() as connection:
        rows = connection.execute(
            select(flows.c.id, flows.c.name, flows.c.created_us, func.count(versions.c.id), func.max(versions.c.number))
            .outerjoin(versions, (versions.c.flow_id == flows.c.id) & versions.c.deleted_us.is_(None))
            .where(flows.c.project == project)
            .group_by(flows.c.id)
            .order_by(flows.c.id.desc())
        )
        routes: dict[int, dict[str, Any]] = {}
        for flow_id, tag, route in connection.execute(
            select(tags.c.flow_id, tags.c.name, tags.c.routes).order_by(tags.c.name)
        ):
            routes.setdefault(flow_id, {})[tag] = route
        return [
            FlowSummary(
                project=project,
                flow=name,
                versions=count,
                latest=latest,
                tags=routes.get(flow_id, {}),
                created_at=as_datetime(created_us),
            )
            for flow_id, name, created_us, count, latest in rows
        ]


def list_versions(database: Database, *, project: str, flow: str | None = None) -> list[VersionDetail]:
    """The versions of a flow, or of every flow of the project; newest first, without the deleted ones.

    Raises:
        KitaruNotFoundError: no such flow.
    """
    with database.read() as connection:
        if flow is not None:
            keys = [find_flow(connection, flow, project=project)]
        else:
            found = connection.execute(
                select(flows.c.id, flows.c.project, flows.c.name).where(flows.c.project == project)
            )
            keys = [FlowRow(*row) for row in found]
        details = [detail for key in keys for detail in details_of(connection, key, live_versions(connection, key))]
    return sorted(details, key=lambda detail: (detail.created_at, detail.version), reverse=True)


def show_version(database: Database, ref: FlowRef, *, project: str) -> VersionDetail:
    """The version that `ref` means now, with its deploys.

    Raises:
        KitaruNotFoundError: no such flow, tag, version or digest; says what there is.
    """
    with database.read() as connection:
        found = resolve_on(connection, ref, project=project).version
        key = find_flow(connection, found.flow, project=found.project)
        return details_of(connection, key, [find_version(connection, key, found.version)])[0]


def previous_version(database: Database, *, project: str, flow: str, tag: str | None = None) -> VersionDetail | None:
    """The flow's newest version; None where it has none.

    Args:
        tag: that a deploy is to move at its end.

    Raises:
        KitaruUsageError, KitaruStateError: the tag has an odd name, or is frozen.
    """
    if tag is not None:
        check_name("tag", tag)
    with database.read() as connection:
        row = connection.execute(select(flows.c.id).where(flows.c.project == project, flows.c.name == flow)).first()
        if row is None:
            return None
        key = FlowRow(row.id, project, flow)
        if tag is not None:
            require_movable(connection, key, tag)
        return next(iter(details_of(connection, key, live_versions(connection, key)[:1])), None)


def delete_version(database: Database, *, project: str, flow: str, version: int) -> Version:
    """The version is gone from every list and ref; its number stays used.

    Raises:
        KitaruConflictError: a tag routes to it, or an execution of it has not ended.
        KitaruNotFoundError: no such flow or version.
    """
    with database.write(flow=f"{project}/{flow}") as connection:
        key = find_flow(connection, flow, project=project)
        row = find_version(connection, key, version)
        routing = tags_by_version(connection, key).get(version, ())
        if routing:
            route = f"tag {routing[0]} routes" if len(routing) == 1 else f"tags {', '.join(routing)} route"
            raise KitaruConflictError(
                f"{row.name} of {flow} cannot be deleted: the {route} to it",
                hint=f"kitaru tag move {routing[0]} OTHER_VERSION --flow {flow}",
            )
        running = count_open(connection, key, [version])
        if running:
            open_ones = "an execution of it has" if running == 1 else f"{running} executions of it have"
            raise KitaruConflictError(
                f"{row.name} of {flow} cannot be deleted: {open_ones} not ended",
                hint=f"kitaru executions list --flow {flow} --version {row.name}",
            )
        connection.execute(update(versions).where(versions.c.id == row.id).values(deleted_us=now_us()))
        return as_version(connection, key, row)


def details_of(connection: Connection, flow: FlowRow, rows: Sequence[VersionRow]) -> list[VersionDetail]:
    routing = tags_by_version(connection, flow)
    deploys: dict[int, list[DeployEvent]] = {}
    events = select(deploy_events).where(deploy_events.c.version_id.in_([row.id for row in rows]))
    for event in connection.execute(events.order_by(deploy_events.c.id.desc())):
        deploys.setdefault(event.version_id, []).append(as_event(event))
    return [
        VersionDetail(
            project=flow.project,
            flow=flow.flow,
            version=row.number,
            digest=row.digest,
            created_at=as_datetime(row.created_us),
            tags=routing.get(row.number, ()),
            config=row.snapshot,
            deploys=tuple(deploys.get(row.id, ())),
        )
        for row in rows
    ]


def as_event(row: Row[Any]) -> DeployEvent:
    return DeployEvent(
        at=as_datetime(row.at_us),
        actor=row.actor,
        git=GitFacts.model_validate(row.git) if row.git else None,
        created=row.created,
    )


def declared_variables(database: Database, digest: str | None = None) -> tuple[str, ...]:
    """Names of environment variables that the executions of a snapshot, or of all, may see."""
    wanted = select(versions.c.config).where(versions.c.deleted_us.is_(None))
    if digest is not None:
        wanted = wanted.where(versions.c.digest == digest)
    with database.read() as connection:
        found = connection.execute(wanted).scalars().all()
    return tuple(sorted({name for config in found for name in config["options"].get("env", ())}))
