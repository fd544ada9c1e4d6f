"""`KitaruClient().deployments` and `.tags`: versions of flows, and what points at them."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kitaru.door import checked_methods
from kitaru_registry.config import load_project
from kitaru_registry.deployments import tags, versions
from kitaru_registry.deployments.refs import FlowRef, parse_ref, parse_tag_ref, parse_version
from kitaru_registry.deployments.tags import Author
from kitaru_registry.errors import KitaruNotFoundError, KitaruUsageError
from kitaru_registry.models import Deployed, FlowSummary, TagMove, TagState, Version, VersionDetail
from kitaru_registry.stores.layout import ref_name

if TYPE_CHECKING:
    from kitaru.client import KitaruClient
    from kitaru.flow_options import FlowOptions
    from kitaru.handle import FlowHandle


@checked_methods
class Deployments:
    def __init__(self, client: KitaruClient) -> None:
        self._client = client

    def create(
        self,
        target: str | None = None,
        *,
        tag: str | None = None,
        upgrade: bool = False,
        adopt: bool = False,
        allow: Sequence[str] = (),
        project: str | None = None,
        options: FlowOptions | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> Deployed:
        """What `kitaru deploy TARGET` does: `path.py:flow`, or a flow of kitaru.toml.

        Args:
            options: instead of those that `@flow` says.
        """
        from kitaru.deploying import deploy

        return deploy(
            target,
            home=self._client.home,
            cwd=self._client.cwd,
            database=self._client.database,
            # What the client was told wins over the kitaru.toml of the target; what it read in its folder does not.
            project=project or self._client._project,
            tag=tag,
            upgrade=upgrade,
            adopt=adopt,
            allow=allow,
            actor=self._client.actor,
            options=options,
            progress=progress,
        )

    def invoke(
        self,
        *,
        flow: str,
        inputs: Mapping[str, Any] | None = None,
        version: int | str | None = None,
        tag: str | None = None,
        idempotency_key: str | None = None,
    ) -> FlowHandle:
        """Start an execution of what the reference means now, pinned to its digest; the local runner executes it.

        Args:
            flow: `review_flow`, `review_flow@stable`, `review_flow@v3`, `review_flow@sha256:...`,
                `project/review_flow@stable`.
            idempotency_key: unique for the flow; the same key and inputs give the first execution.

        Raises:
            KitaruNotFoundError: no such flow, tag or version.
            KitaruUsageError: the inputs do not fit the version's schema.
            KitaruConflictError: the key was used with other inputs.
        """
        from kitaru.invoking import invoke

        ref = parse_ref(flow, tag=tag, version=version)
        return invoke(self._client, ref, inputs or {}, idempotency_key=idempotency_key)

    def list(self, *, flow: str | None = None) -> builtins.list[VersionDetail]:
        """Newest first; of every flow of the project, if none is named."""
        if flow is None:
            return versions.list_versions(self._client.database, project=self._client.project)
        ref = plain(flow)
        return versions.list_versions(self._client.database, project=ref.project or self._client.project, flow=ref.flow)

    def get(self, *, flow: str, version: int | str | None = None, tag: str | None = None) -> VersionDetail:
        """The version that `review_flow`, `review_flow@stable`, `review_flow@v3`, ... means now."""
        ref = parse_ref(flow, tag=tag, version=version)
        return versions.show_version(self._client.database, ref, project=self._client.project)

    def flows(self) -> builtins.list[FlowSummary]:
        """Newest first."""
        return versions.list_flows(self._client.database, project=self._client.project)

    def delete(self, *, flow: str, version: int | str | None = None) -> Version:
        """Take a version away that nothing routes to and nothing runs on; its number stays used."""
        ref = parse_ref(flow, version=version)
        if ref.selector.version is None:
            raise KitaruUsageError(f"which version of {ref.flow}?", hint=f"kitaru versions delete {ref.flow}@vN")
        deleted = versions.delete_version(
            self._client.database,
            project=ref.project or self._client.project,
            flow=ref.flow,
            version=ref.selector.version,
        )
        self._client.layout.unname(ref_name(project=deleted.project, flow=deleted.flow, version=deleted.version))
        return deleted


@checked_methods
class Tags:
    """Each `tag` may be written `FLOW@TAG`; without a flow it is kitaru.toml's, or the only one there is."""

    def __init__(self, client: KitaruClient) -> None:
        self._client = client

    def move(
        self,
        tag: str,
        version: int | str,
        *,
        flow: str | None = None,
        reason: str | None = None,
        release: bool = False,
    ) -> TagMove:
        """From now on the tag routes to this version."""
        project, name, tag = self._tag(tag, flow)
        return tags.move(
            self._client.database,
            project=project,
            flow=name,
            tag=tag,
            version=parse_version(version),
            author=Author(self._client.actor, reason),
            release=release,
        )

    def rollback(
        self, tag: str, *, flow: str | None = None, to: int | str | None = None, reason: str | None = None
    ) -> TagMove:
        """Back to the version before, and frozen until a move releases it."""
        project, name, tag = self._tag(tag, flow)
        return tags.rollback(
            self._client.database,
            project=project,
            flow=name,
            tag=tag,
            to=None if to is None else parse_version(to),
            author=Author(self._client.actor, reason),
        )

    def list(self, *, flow: str | None = None) -> builtins.list[TagState]:
        """The last moved first; of every flow of the project, if none is named."""
        return tags.list_tags(self._client.database, project=self._client.project, flow=flow)

    def history(self, tag: str, *, flow: str | None = None) -> builtins.list[TagMove]:
        """Every move of the tag, newest first."""
        project, name, tag = self._tag(tag, flow)
        return tags.history(self._client.database, project=project, flow=name, tag=tag)

    def delete(self, tag: str, *, flow: str | None = None, reason: str | None = None) -> TagMove:
        """The tag routes nowhere; its history stays. `default` cannot be deleted."""
        project, name, tag = self._tag(tag, flow)
        return tags.delete(
            self._client.database, project=project, flow=name, tag=tag, author=Author(self._client.actor, reason)
        )

    def _tag(self, tag: str, flow: str | None) -> tuple[str, str, str]:
        named, name = parse_tag_ref(tag, flow)
        return self._client.project, named or self._only_flow(), name

    def _only_flow(self) -> str:
        declared = tuple(load_project(self._client.cwd).flows)
        if len(declared) == 1:
            return declared[0]
        there = [summary.flow for summary in versions.list_flows(self._client.database, project=self._client.project)]
        if len(there) == 1:
            return there[0]
        if not there:
            raise KitaruNotFoundError(
                f"there is no flow in project {self._client.project}", hint="kitaru deploy path.py:flow"
            )
        raise KitaruUsageError(
            f"which flow? project {self._client.project} has {', '.join(there)}",
            hint="name it: FLOW@TAG, or --flow FLOW",
        )


def plain(flow: str) -> FlowRef:
    """The flow alone, `review_flow` or `team/review_flow`, where a version makes no sense."""
    if "@" in flow:
        raise KitaruUsageError(f"{flow} names a version; a flow is asked for", hint=f"leave out @{flow.split('@')[1]}")
    return parse_ref(flow)
