"""Moving a tag is the whole of a rollout, and of a rollback.

A move is a compare-and-set: what was read before is compared, inside the write, with the last move that the history
holds, so a tag that went away and came back is seen to have moved. Who loses is told the other move. The history is
append-only, and a chain: each row begins where the one before it ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from sqlalchemy import delete as delete_from
from sqlalchemy import select, update
from sqlalchemy.engine import Connection, Row

from kitaru_registry.clock import as_datetime, now_us
from kitaru_registry.database.opening import Database
from kitaru_registry.database.tables import flows, tag_moves, tags, versions
from kitaru_registry.deployments.finding import (
    FlowRow,
    count_open,
    find_flow,
    find_named_flow,
    find_version,
    missing_tag,
    routed_version,
)
from kitaru_registry.deployments.refs import DEFAULT_TAG
from kitaru_registry.errors import KitaruConflictError, KitaruStateError
from kitaru_registry.models import Routes, TagMove, TagState
from kitaru_registry.names import check_name


@dataclass(frozen=True)
class Seen:
    """A tag as somebody saw it: what a compare-and-set compares with."""

    last_move: int
    """The history's last row of this tag; 0 where it has none."""
    routes: Routes | None
    frozen: bool


@dataclass(frozen=True)
class Author:
    """Who moves a tag, and why; kept in the history."""

    actor: str
    reason: str | None = None
    commit: str | None = None


def look(database: Database, *, project: str, flow: str, tag: str) -> Seen:
    """The tag now; one that is not there has no routes.

    Raises:
        KitaruNotFoundError: no such flow.
    """
    return find(database, project=project, flow=flow, tag=tag)[1]


def find(database: Database, *, project: str, flow: str | None, tag: str) -> tuple[str, Seen]:
    """The flow's name, and the tag as it is now.

    Args:
        flow: None means the project's only one.

    Raises:
        KitaruNotFoundError: no such flow.
        KitaruUsageError: there are several.
    """
    check_name("tag", tag)
    with database.read() as connection:
        key = find_named_flow(connection, flow, project=project)
        return key.flow, look_on(connection, key, tag)


def move(
    database: Database,
    *,
    project: str,
    flow: str,
    tag: str,
    version: int,
    author: Author,
    release: bool = False,
    seen: Seen | None = None,
) -> TagMove:
    """From now on `tag` routes to `version`; `moved` is false if it did already.

    Args:
        release: unfreeze a tag that a rollback froze.
        seen: the state that this move is meant to change; what is there now if not given.

    Raises:
        KitaruConflictError: somebody else moved the tag since it was seen.
        KitaruStateError: it is frozen, and not released by this move.
        KitaruNotFoundError: no such flow or version.
    """
    seen = seen or look(database, project=project, flow=flow, tag=tag)
    with database.write(flow=f"{project}/{flow}") as connection:
        key = find_flow(connection, flow, project=project)
        target = find_version(connection, key, version)
        routes = {target.name: 100}
        now = look_on(connection, key, tag)
        if now.routes != routes:
            check_unmoved(connection, key, tag, seen, now, doing=f"moving it to {target.name}")
        return move_on(connection, key, tag, routes, author, release=release)


def move_on(
    connection: Connection,
    flow: FlowRow,
    tag: str,
    routes: Routes,
    author: Author,
    *,
    kind: str = "move",
    release: bool = False,
) -> TagMove:
    """The move itself, inside the caller's write; from whatever route the tag has."""
    now = look_on(connection, flow, tag)
    moved, frozen = now.routes != routes, now.frozen and not release
    if moved and frozen:
        refuse_frozen(connection, flow, tag, f"kitaru tag move {tag} {name_of(routes)} --flow {flow.flow} --release")
    if not moved and frozen == now.frozen:
        return unmoved(flow, tag, now, author)
    return record(connection, flow, tag, now, routes, author, kind=kind if moved else "release", frozen=frozen)


def rollback(
    database: Database,
    *,
    project: str,
    flow: str,
    tag: str,
    author: Author,
    to: int | None = None,
    seen: Seen | None = None,
) -> TagMove:
    """The tag routes to the last version that held it before the present one, and is frozen.

    Args:
        to: the version to go to instead.

    Raises:
        KitaruConflictError: somebody else moved the tag since it was seen.
        KitaruStateError: no earlier version is left.
        KitaruNotFoundError: no such flow, tag or version.
    """
    seen = seen or look(database, project=project, flow=flow, tag=tag)
    with database.write(flow=f"{project}/{flow}") as connection:
        key = find_flow(connection, flow, project=project)
        now = look_on(connection, key, tag)
        check_unmoved(connection, key, tag, seen, now, doing="rolling it back")
        if now.routes is None:
            missing_tag(connection, key, tag)
        target = find_version(connection, key, to or earlier_version(connection, key, tag, now.routes))
        routes = {target.name: 100}
        if now.routes == routes and now.frozen:
            return unmoved(key, tag, now, author)
        return record(connection, key, tag, now, routes, author, kind="rollback", frozen=True)


def delete(
    database: Database, *, project: str, flow: str, tag: str, author: Author, seen: Seen | None = None
) -> TagMove:
    """The tag routes nowhere; its history stays.

    Raises:
        KitaruConflictError: somebody else moved the tag since it was seen.
        KitaruStateError: it is `default`, or frozen.
        KitaruNotFoundError: no such flow or tag.
    """
    if tag == DEFAULT_TAG:
        raise KitaruStateError(
            f"the tag {DEFAULT_TAG} of {flow} cannot be deleted: it is what an invocation without a tag means",
            hint=f"kitaru tag move {DEFAULT_TAG} VERSION --flow {flow}",
        )
    seen = seen or look(database, project=project, flow=flow, tag=tag)
    with database.write(flow=f"{project}/{flow}") as connection:
        key = find_flow(connection, flow, project=project)
        now = look_on(connection, key, tag)
        check_unmoved(connection, key, tag, seen, now, doing="deleting it")
        if now.routes is None:
            missing_tag(connection, key, tag)
        if now.frozen:
            release = f"kitaru tag move {tag} {name_of(now.routes)} --flow {flow} --release"
            refuse_frozen(connection, key, tag, release)
        return record(connection, key, tag, now, None, author, kind="delete", frozen=False)


def list_tags(database: Database, *, project: str, flow: str | None = None) -> list[TagState]:
    """The tags of the flow, or of every flow of the project; the last moved first.

    Raises:
        KitaruNotFoundError: no such flow.
    """
    with database.read() as connection:
        if flow is not None:
            find_flow(connection, flow, project=project)
        rows = connection.execute(
            select(tags, flows.c.name.label("flow"))
            .join(flows)
            .where(flows.c.project == project, flows.c.name == (flow if flow is not None else flows.c.name))
            .order_by(tags.c.moved_us.desc(), flows.c.name, tags.c.name)
        ).all()
    return [
        TagState(
            project=project,
            flow=row.flow,
            tag=row.name,
            routes=row.routes,
            frozen=row.frozen,
            moved_at=as_datetime(row.moved_us),
            actor=row.actor,
        )
        for row in rows
    ]


def history(database: Database, *, project: str, flow: str | None, tag: str) -> list[TagMove]:
    """Every move of the tag, newest first; also of one that was deleted.

    Args:
        flow: None means the project's only one.

    Raises:
        KitaruNotFoundError: no such flow, or there never was such a tag.
        KitaruUsageError: no flow is named, and there are several.
    """
    with database.read() as connection:
        key = find_named_flow(connection, flow, project=project)
        rows = moves_of(connection, key, tag)
        if not rows:
            missing_tag(connection, key, tag)
        return [as_move(key, row) for row in reversed(rows)]


def require_movable(connection: Connection, flow: FlowRow, tag: str) -> None:
    """
    Raises:
        KitaruStateError: it is frozen, as a deploy that moves it would find at its end.
    """
    if look_on(connection, flow, tag).frozen:
        refuse_frozen(connection, flow, tag, f"kitaru tag move {tag} VERSION --flow {flow.flow} --release")


def look_on(connection: Connection, flow: FlowRow, tag: str) -> Seen:
    last = last_move(connection, flow, tag)
    row = connection.execute(
        select(tags.c.routes, tags.c.frozen).where(tags.c.flow_id == flow.id, tags.c.name == tag)
    ).first()
    return Seen(last.id if last else 0, row.routes if row else None, row.frozen if row else False)


def check_unmoved(connection: Connection, flow: FlowRow, tag: str, seen: Seen, now: Seen, *, doing: str) -> None:
    if seen.last_move == now.last_move:
        return
    other = last_move(connection, flow, tag)
    assert other is not None  # the history only grows
    what = f"moved to {name_of(other.to_routes)}" if other.to_routes else "was deleted"
    raise KitaruConflictError(
        f"tag {tag} of {flow.flow} {what} by {other.actor} while you were {doing}",
        hint=f"kitaru tag history {tag} --flow {flow.flow}",
    )


def refuse_frozen(connection: Connection, flow: FlowRow, tag: str, release: str) -> NoReturn:
    last = last_move(connection, flow, tag)
    assert last is not None  # a tag is frozen by a move
    because = f" ({last.reason})" if last.reason else ""
    raise KitaruStateError(
        f"tag {tag} of {flow.flow} is frozen: {last.actor} rolled it back to {name_of(last.to_routes)}{because}",
        hint=release,
    )


def earlier_version(connection: Connection, flow: FlowRow, tag: str, routes: Routes) -> int:
    """The last version that held the tag before the present one, and still is there."""
    present = routed_version(routes)
    live = set(
        connection.execute(
            select(versions.c.number).where(versions.c.flow_id == flow.id, versions.c.deleted_us.is_(None))
        ).scalars()
    )
    changes = [
        (row.kind, routed_version(row.to_routes) if row.to_routes else None) for row in moves_of(connection, flow, tag)
    ]
    for number in reversed(holders(changes)):
        if number != present and number in live:
            return number
    raise KitaruStateError(
        f"tag {tag} of {flow.flow} has no earlier version to go back to: it is at v{present}",
        hint=f"kitaru tag rollback {tag} --to VERSION --flow {flow.flow}; kitaru versions list {flow.flow}",
    )


def holders(changes: Sequence[tuple[str, int | None]]) -> list[int]:
    """The versions to go back to, best last, from (kind, version) of each move: what was rolled back is none of them.

    Two rollbacks in a row thus go two versions back, and not to the bad one again.
    """
    stack: list[int] = []
    for kind, number in changes:
        if number is None:
            stack = []
        elif kind != "rollback":
            stack.append(number)
        elif number in stack[:-1]:
            del stack[len(stack) - 1 - stack[-2::-1].index(number) :]
        else:
            stack[-1:] = [number]
    return stack


def record(
    connection: Connection,
    flow: FlowRow,
    tag: str,
    now: Seen,
    routes: Routes | None,
    author: Author,
    *,
    kind: str,
    frozen: bool,
) -> TagMove:
    at_us = now_us()
    row = connection.execute(
        tag_moves.insert()
        .values(
            flow_id=flow.id,
            tag=tag,
            kind=kind,
            from_routes=now.routes,
            to_routes=routes,
            frozen=frozen,
            actor=author.actor,
            reason=author.reason,
            git_commit=author.commit,
            at_us=at_us,
        )
        .returning(tag_moves)
    ).one()
    if routes is None:
        connection.execute(delete_from(tags).where(tags.c.flow_id == flow.id, tags.c.name == tag))
    else:
        state = {"routes": routes, "frozen": frozen, "actor": author.actor, "moved_us": at_us}
        own = update(tags).where(tags.c.flow_id == flow.id, tags.c.name == tag)
        if not connection.execute(own.values(**state)).rowcount:
            connection.execute(tags.insert().values(flow_id=flow.id, name=tag, **state))
    left = [routed_version({name: share}) for name, share in (now.routes or {}).items() if name not in (routes or {})]
    return as_move(flow, row).model_copy(update={"still_running": count_open(connection, flow, left)})


def unmoved(flow: FlowRow, tag: str, now: Seen, author: Author) -> TagMove:
    return TagMove.model_construct(
        project=flow.project,
        flow=flow.flow,
        tag=tag,
        from_=now.routes,
        to=now.routes,
        moved=False,
        frozen=now.frozen,
        actor=author.actor,
        reason=author.reason,
        commit=author.commit,
        at=as_datetime(now_us()),
    )


def as_move(flow: FlowRow, row: Row[Any]) -> TagMove:
    return TagMove.model_construct(
        project=flow.project,
        flow=flow.flow,
        tag=row.tag,
        from_=row.from_routes,
        to=row.to_routes,
        moved=row.from_routes != row.to_routes,
        kind=row.kind,
        frozen=row.frozen,
        actor=row.actor,
        reason=row.reason,
        commit=row.git_commit,
        at=as_datetime(row.at_us),
    )


def moves_of(connection: Connection, flow: FlowRow, tag: str) -> Sequence[Row[Any]]:
    return connection.execute(
        select(tag_moves).where(tag_moves.c.flow_id == flow.id, tag_moves.c.tag == tag).order_by(tag_moves.c.id)
    ).all()


def last_move(connection: Connection, flow: FlowRow, tag: str) -> Row[Any] | None:
    return connection.execute(
        select(tag_moves)
        .where(tag_moves.c.flow_id == flow.id, tag_moves.c.tag == tag)
        .order_by(tag_moves.c.id.desc())
        .limit(1)
    ).first()


def name_of(routes: Routes | None) -> str:
    """`v3` of `{"v3": 100}`."""
    return ", ".join(routes or {})
