"""How the requests of version_requests are answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kitaru_registry.api.holdings import Holdings
from kitaru_registry.api.request import Actor
from kitaru_registry.api.version_requests import (
    DeclaredVariables,
    DeleteVersion,
    GetVersion,
    ListFlows,
    ListVersions,
    PrepareDeploy,
    RegisterVersion,
)
from kitaru_registry.deployments import versions
from kitaru_registry.models import FlowSummary, Version, VersionDetail
from kitaru_registry.records.answers import Registered


def list_flows(at: Holdings, asked: ListFlows, by: Actor) -> list[FlowSummary]:
    return versions.list_flows(at.database, project=asked.project)


def list_versions(at: Holdings, asked: ListVersions, by: Actor) -> list[VersionDetail]:
    return versions.list_versions(at.database, project=asked.project, flow=asked.flow)


def get(at: Holdings, asked: GetVersion, by: Actor) -> VersionDetail:
    return versions.show_version(at.database, asked.ref, project=asked.project)


def delete(at: Holdings, asked: DeleteVersion, by: Actor) -> Version:
    from kitaru_registry.stores.layout import ref_name

    gone = versions.delete_version(at.database, project=asked.project, flow=asked.flow, version=asked.version)
    at.layout.unname(ref_name(project=gone.project, flow=gone.flow, version=gone.version))
    return gone


def prepare_deploy(at: Holdings, asked: PrepareDeploy, by: Actor) -> VersionDetail | None:
    at.database.require_writable()
    return versions.previous_version(at.database, project=asked.project, flow=asked.flow, tag=asked.tag)


def register(at: Holdings, asked: RegisterVersion, by: Actor) -> Registered:
    return versions.register(
        at.database, project=asked.project, flow=asked.flow, origin=asked.origin, digest=asked.digest,
        config=asked.config, git=asked.git, actor=by.name, tag=asked.tag, adopt=asked.adopt,
    )  # fmt: skip


def declared_variables(at: Holdings, asked: DeclaredVariables, by: Actor) -> tuple[str, ...]:
    return versions.declared_variables(at.database, asked.digest)


ANSWERS: Mapping[type, Callable[[Holdings, Any, Actor], Any]] = {
    ListFlows: list_flows,
    ListVersions: list_versions,
    GetVersion: get,
    DeleteVersion: delete,
    PrepareDeploy: prepare_deploy,
    RegisterVersion: register,
    DeclaredVariables: declared_variables,
}
