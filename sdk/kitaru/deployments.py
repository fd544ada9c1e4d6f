"""`KitaruClient().deployments` and `.tags`: versions of flows, and what points at them."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kitaru.door import checked_methods
from kitaru_registry.api.tag_requests import DeleteTag, ListTags, MoveTag, RollBackTag, TagHistory
from kitaru_registry.api.version_requests import DeleteVersion, GetVersion, ListFlows, ListVersions
from kitaru_registry.deployments.refs import FlowRef, parse_ref, parse_tag_ref, parse_version
from kitaru_registry.errors import KitaruUsageError
from kitaru_registry.models import Deployed, FlowSummary, TagMove, TagState, Version, VersionDetail

if TYPE_CHECKING:
    from kitaru.flow_options import FlowOptions
    from kitaru.handle import FlowHandle
    from kitaru.session import Session


@checked_methods
class Deployments:
    def __init__(self, session: Session) -> None:
        self._session = session

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
            home=self._session.home,
            cwd=self._session.cwd,
            registry=self._session.registry,
            # What the client was told wins over the kitaru.toml of the target; what it read in its folder does not.
            project=project or self._session.named_project,
            tag=tag,
            upgrade=upgrade,
            adopt=adopt,
            allow=allow,
            actor=self._session.actor,
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
        return invoke(self._session, ref, inputs or {}, idempotency_key=idempotency_key)

    def list(self, *, flow: str | None = None) -> builtins.list[VersionDetail]:
        """Newest first; of every flow of the project, if none is named."""
        ref = plain(flow) if flow is not None else None
        project = (ref.project if ref else None) or self._session.project
        return self._session.ask(ListVersions(project=project, flow=ref.flow if ref else None))

    def get(self, *, flow: str, version: int | str | None = None, tag: str | None = None) -> VersionDetail:
        """The version that `review_flow`, `review_flow@stable`, `review_flow@v3`, ... means now."""
        ref = parse_ref(flow, tag=tag, version=version)
        return self._session.ask(GetVersion(project=self._session.project, ref=ref))

    def flows(self) -> builtins.list[FlowSummary]:
        """Newest first."""
        return self._session.ask(ListFlows(project=self._session.project))

    def delete(self, *, flow: str, version: int | str | None = None) -> Version:
        """Take a version away that nothing routes to and nothing runs on; its number stays used."""
        ref = parse_ref(flow, version=version)
        number = ref.selector.version
        if number is None:
            raise KitaruUsageError(f"which version of {ref.flow}?", hint=f"kitaru versions delete {ref.flow}@vN")
        project = ref.project or self._session.project
        return self._session.ask(DeleteVersion(project=project, flow=ref.flow, version=number))


@checked_methods
class Tags:
    """Each `tag` may be written `FLOW@TAG`; without a flow it is kitaru.toml's, or the only one there is."""

    def __init__(self, session: Session) -> None:
        self._session = session

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
        named, tag = self._named(tag, flow)
        number = parse_version(version)
        return self._session.ask(
            MoveTag(
                project=self._session.project, flow=named, tag=tag, version=number, reason=reason, release=release
            )
        )  # fmt: skip

    def rollback(
        self, tag: str, *, flow: str | None = None, to: int | str | None = None, reason: str | None = None
    ) -> TagMove:
        """Back to the version before, and frozen until a move releases it."""
        named, tag = self._named(tag, flow)
        number = None if to is None else parse_version(to)
        return self._session.ask(
            RollBackTag(project=self._session.project, flow=named, tag=tag, to=number, reason=reason)
        )

    def list(self, *, flow: str | None = None) -> builtins.list[TagState]:
        """The last moved first; of every flow of the project, if none is named."""
        return self._session.ask(ListTags(project=self._session.project, flow=flow))

    def history(self, tag: str, *, flow: str | None = None) -> builtins.list[TagMove]:
        """Every move of the tag, newest first."""
        named, tag = self._named(tag, flow)
        return self._session.ask(TagHistory(project=self._session.project, flow=named, tag=tag))

    def delete(self, tag: str, *, flow: str | None = None, reason: str | None = None) -> TagMove:
        """The tag routes nowhere; its history stays. `default` cannot be deleted."""
        named, tag = self._named(tag, flow)
        return self._session.ask(DeleteTag(project=self._session.project, flow=named, tag=tag, reason=reason))

    def _named(self, tag: str, flow: str | None) -> tuple[str | None, str]:
        """The flow and the tag; where none is named kitaru.toml's only flow, else None: the project's only one."""
        named, name = parse_tag_ref(tag, flow)
        declared = tuple(self._session.config.flows) if named is None else ()
        return declared[0] if len(declared) == 1 else named, name


def plain(flow: str) -> FlowRef:
    """The flow alone, `review_flow` or `team/review_flow`, where a version makes no sense."""
    if "@" in flow:
        raise KitaruUsageError(f"{flow} names a version; a flow is asked for", hint=f"leave out @{flow.split('@')[1]}")
    return parse_ref(flow)
