"""How the requests of tag_requests are answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kitaru_registry.api.holdings import Holdings
from kitaru_registry.api.request import Actor
from kitaru_registry.api.tag_requests import DeleteTag, ListTags, MoveTag, RollBackTag, TagHistory
from kitaru_registry.deployments import tags
from kitaru_registry.deployments.tags import Author
from kitaru_registry.models import TagMove, TagState


def move(at: Holdings, asked: MoveTag, by: Actor) -> TagMove:
    flow, seen = tags.find(at.database, project=asked.project, flow=asked.flow, tag=asked.tag)
    return tags.move(
        at.database, project=asked.project, flow=flow, tag=asked.tag, version=asked.version,
        author=Author(by.name, asked.reason), release=asked.release, seen=seen,
    )  # fmt: skip


def roll_back(at: Holdings, asked: RollBackTag, by: Actor) -> TagMove:
    flow, seen = tags.find(at.database, project=asked.project, flow=asked.flow, tag=asked.tag)
    return tags.rollback(
        at.database, project=asked.project, flow=flow, tag=asked.tag, to=asked.to,
        author=Author(by.name, asked.reason), seen=seen,
    )  # fmt: skip


def delete(at: Holdings, asked: DeleteTag, by: Actor) -> TagMove:
    flow, seen = tags.find(at.database, project=asked.project, flow=asked.flow, tag=asked.tag)
    return tags.delete(
        at.database, project=asked.project, flow=flow, tag=asked.tag, author=Author(by.name, asked.reason), seen=seen
    )


def list_tags(at: Holdings, asked: ListTags, by: Actor) -> list[TagState]:
    return tags.list_tags(at.database, project=asked.project, flow=asked.flow)


def history(at: Holdings, asked: TagHistory, by: Actor) -> list[TagMove]:
    return tags.history(at.database, project=asked.project, flow=asked.flow, tag=asked.tag)


ANSWERS: Mapping[type, Callable[[Holdings, Any, Actor], Any]] = {
    MoveTag: move,
    RollBackTag: roll_back,
    DeleteTag: delete,
    ListTags: list_tags,
    TagHistory: history,
}
