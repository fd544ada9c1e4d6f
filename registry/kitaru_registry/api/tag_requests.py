"""What points at which version, and every change of it."""

from __future__ import annotations

from dataclasses import dataclass

from kitaru_registry.api.request import Request
from kitaru_registry.models import TagMove, TagState


@dataclass(frozen=True, kw_only=True)
class MoveTag(Request[TagMove]):
    """From now on the tag routes to this version; `moved` is false if it did already.

    Raises:
        KitaruNotFoundError: no such flow or version.
        KitaruConflictError: somebody else moved the tag meanwhile.
        KitaruStateError: it is frozen, and not released by this move.
        KitaruUsageError: no flow is named, and the project has several; or an odd name.
    """

    project: str
    tag: str
    version: int
    flow: str | None = None
    """None: the project's only one."""
    reason: str | None = None
    release: bool = False
    """Unfreeze a tag that a rollback froze."""


@dataclass(frozen=True, kw_only=True)
class RollBackTag(Request[TagMove]):
    """The tag routes to the last version that held it before the present one, and is frozen.

    Raises:
        KitaruNotFoundError: no such flow, tag or version.
        KitaruConflictError: somebody else moved the tag meanwhile.
        KitaruStateError: no earlier version is left.
        KitaruUsageError: no flow is named, and the project has several; or an odd name.
    """

    project: str
    tag: str
    flow: str | None = None
    """None: the project's only one."""
    to: int | None = None
    """The version to go to instead."""
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class DeleteTag(Request[TagMove]):
    """The tag routes nowhere; its history stays.

    Raises:
        KitaruNotFoundError: no such flow or tag.
        KitaruConflictError: somebody else moved the tag meanwhile.
        KitaruStateError: it is `default`, or frozen.
        KitaruUsageError: no flow is named, and the project has several; or an odd name.
    """

    project: str
    tag: str
    flow: str | None = None
    """None: the project's only one."""
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class ListTags(Request[list[TagState]]):
    """The tags of a flow, or of every flow of the project; the last moved first.

    Raises:
        KitaruNotFoundError: no such flow.
    """

    project: str
    flow: str | None = None


@dataclass(frozen=True, kw_only=True)
class TagHistory(Request[list[TagMove]]):
    """Every move of the tag, newest first; also of one that was deleted.

    Raises:
        KitaruNotFoundError: no such flow, or there never was such a tag.
        KitaruUsageError: no flow is named, and the project has several.
    """

    project: str
    tag: str
    flow: str | None = None
    """None: the project's only one."""
