"""What is deployed: flows, their versions, and how a new one comes to be."""

from __future__ import annotations

from dataclasses import dataclass

from kitaru_registry.api.request import Request
from kitaru_registry.deployments.refs import FlowRef
from kitaru_registry.models import (
    Digest,
    FlowSummary,
    GitFacts,
    Origin,
    SnapshotConfig,
    Version,
    VersionDetail,
)
from kitaru_registry.records.answers import Registered


@dataclass(frozen=True, kw_only=True)
class ListFlows(Request[list[FlowSummary]]):
    """The flows of a project with their tags, newest first."""

    project: str


@dataclass(frozen=True, kw_only=True)
class ListVersions(Request[list[VersionDetail]]):
    """The versions of a flow, or of every flow of the project; newest first, without the deleted ones.

    Raises:
        KitaruNotFoundError: no such flow.
    """

    project: str
    flow: str | None = None


@dataclass(frozen=True, kw_only=True)
class GetVersion(Request[VersionDetail]):
    """The version that a reference means now, with its deploys.

    Raises:
        KitaruNotFoundError: no such flow, tag, version or digest; says what there is.
        KitaruUsageError: the digits of a digest fit several.
    """

    project: str
    ref: FlowRef


@dataclass(frozen=True, kw_only=True)
class DeleteVersion(Request[Version]):
    """The version is gone from every list and reference; its number stays used.

    Raises:
        KitaruNotFoundError: no such flow or version.
        KitaruConflictError: a tag routes to it, or an execution of it has not ended.
    """

    project: str
    flow: str
    version: int


@dataclass(frozen=True, kw_only=True)
class PrepareDeploy(Request[VersionDetail | None]):
    """The flow's newest version, if it has one; refused is what the end of the deploy would refuse.

    Raises:
        KitaruStateError: the tag that is to move is frozen.
        KitaruUsageError: an odd name of a tag.
    """

    project: str
    flow: str
    tag: str | None = None


@dataclass(frozen=True, kw_only=True)
class RegisterVersion(Request[Registered]):
    """Who deploys has a version of this digest: a new one, or the one that had it before.

    Its blobs are in the store. The first version of a flow is what `default` routes to.

    Raises:
        KitaruConflictError: another origin holds the flow's name.
        KitaruStateError: the tag is frozen.
        KitaruUsageError: an odd name.
    """

    project: str
    flow: str
    origin: Origin
    digest: Digest
    config: SnapshotConfig
    git: GitFacts | None = None
    tag: str | None = None
    """Move it to the version too."""
    adopt: bool = False
    """Take over a flow name that another origin holds."""


@dataclass(frozen=True, kw_only=True)
class DeclaredVariables(Request[tuple[str, ...]]):
    """Names of environment variables that the executions of a snapshot, or of all of them, may see."""

    digest: Digest | None = None
