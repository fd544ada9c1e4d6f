"""`kitaru tag`: what a tag points at, and every change of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from kitaru_cli.commands import ROUTE, FlowOption, Output, Reason, command, group, open_client
from kitaru_cli.output import Answer, Format, item, items
from kitaru_cli.tables import Part, Styled, Table, bold, dim
from kitaru_cli.words import ago, counted, now, route

if TYPE_CHECKING:
    from kitaru_registry.models import TagMove, TagState

TagArgument = Annotated[str, typer.Argument(metavar="[FLOW@]TAG", help="The tag.")]


def add_to(app: typer.Typer) -> None:
    tag = group(app, "tag", "Route tags such as stable and canary to versions.", section=ROUTE)
    command(
        tag,
        "tag.move",
        examples=["kitaru tag move canary v3", "kitaru tag move review_flow@stable v3 --reason 'canary was fine'"],
    )(move)
    command(tag, "tag.rollback", examples=["kitaru tag rollback stable --reason 'loops on long topics'"])(rollback)
    command(tag, "tag.list", examples=["kitaru tag list", "kitaru tag list --flow review_flow -o json"])(list_tags)
    command(tag, "tag.history", examples=["kitaru tag history stable"])(history)
    command(tag, "tag.delete", examples=["kitaru tag delete canary"])(delete)


def move(
    tag: TagArgument,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="v1, v2, ...")],
    flow: FlowOption = None,
    reason: Reason = None,
    release: Annotated[
        bool, typer.Option("--release", help="Move it although a rollback froze it, and unfreeze it.")
    ] = False,
    output: Output = Format.text,
) -> Answer:
    """Point a tag at a version. New executions of the tag run that version from now on; running ones keep theirs."""
    moved = open_client().tags.move(tag, version, flow=flow, reason=reason, release=release)
    return item(moved, lambda: move_text(moved))


def rollback(
    tag: TagArgument,
    to: Annotated[
        str | None, typer.Option("--to", metavar="VERSION", help="By default the last version that had the tag.")
    ] = None,
    flow: FlowOption = None,
    reason: Reason = None,
    output: Output = Format.text,
) -> Answer:
    """Point a tag back at the version before, and freeze it there."""
    moved = open_client().tags.rollback(tag, flow=flow, to=to, reason=reason)
    return item(moved, lambda: move_text(moved))


def list_tags(flow: FlowOption = None, output: Output = Format.text) -> Answer:
    """List the tags, and where each points."""
    states = open_client().tags.list(flow=flow)
    return items(states, lambda: states_text(states))


def history(tag: TagArgument, flow: FlowOption = None, output: Output = Format.text) -> Answer:
    """List every move of a tag, the newest first."""
    moves = open_client().tags.history(tag, flow=flow)
    return items(moves, lambda: history_text(moves))


def delete(tag: TagArgument, flow: FlowOption = None, reason: Reason = None, output: Output = Format.text) -> Answer:
    """Remove a tag; its history stays."""
    moved = open_client().tags.delete(tag, flow=flow, reason=reason)
    return item(moved, lambda: move_text(moved))


def move_text(move: TagMove) -> Sequence[Part]:
    name = f"{move.flow}@{move.tag}"
    parts: list[Part] = [headline(move, name)]
    if move.frozen:
        parts.append(Styled(f"It is frozen: only kitaru tag move {name} VERSION --release moves it on.", "yellow"))
    if move.still_running:
        parts.append(
            f"{counted(move.still_running, 'execution')} of {route(move.from_)} still open: "
            f"kitaru executions list --flow {move.flow} --version {route(move.from_)}"
        )
    return parts


def headline(move: TagMove, name: str) -> Part:
    if not move.moved:
        return f"{name} is at {route(move.to)} already"
    if move.to is None:
        return bold(f"{name} is deleted; it was at {route(move.from_)}")
    if move.from_ is None:
        return bold(f"{name}: {route(move.to)}, a new tag")
    return bold(f"{name}: {passage(move)}")


def passage(move: TagMove) -> str:
    """`v3 -> v4`; `v4` for a tag's first route."""
    return f"{route(move.from_)} -> {route(move.to)}" if move.from_ else route(move.to)


def states_text(states: Sequence[TagState]) -> Sequence[Part]:
    if not states:
        return [dim("No tags yet. The first version of a flow gets `default`: kitaru deploy path.py:flow")]
    seen_from = now()
    rows = [
        (
            state.flow,
            state.tag,
            bold(route(state.routes)),
            ago(state.moved_at, seen_from),
            state.actor,
            Styled("frozen" if state.frozen else "", "yellow"),
        )
        for state in states
    ]
    return [Table(("flow", "tag", "route", "moved", "by", ""), rows, wraps=frozenset({"by"}))]


def history_text(moves: Sequence[TagMove]) -> Sequence[Part]:
    seen_from = now()
    rows = [
        (
            ago(move.at, seen_from),
            passage(move),
            move.kind,
            move.actor,
            (move.commit or "-")[:7],
            move.reason or "",
        )
        for move in moves
    ]
    columns = ("at", "route", "kind", "by", "commit", "reason")
    return [Table(columns, rows, wraps=frozenset({"by", "reason"}))]
