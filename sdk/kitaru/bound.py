"""An execution's record that can be acted on: what `KitaruClient().executions` answers with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import PrivateAttr

from kitaru_registry.models import CheckpointCall, ErrorDetail, Execution, Wait

if TYPE_CHECKING:
    from kitaru.artifact_client import ArtifactRef
    from kitaru.client import KitaruClient
    from kitaru.handle import FlowHandle


class BoundExecution(Execution):
    """A frozen record, as of when it was read; `refresh()` reads it again."""

    _client: KitaruClient = PrivateAttr()

    def __eq__(self, other: object) -> bool:
        """Whether it says the same, whichever client has read it."""
        return isinstance(other, Execution) and dict(self) == dict(other)

    def __hash__(self) -> int:
        return hash(self.exec_id)

    @property
    def flow_name(self) -> str:
        return self.flow

    @property
    def failure(self) -> ErrorDetail | None:
        return self.error

    @property
    def pending_wait(self) -> Wait | None:
        """The oldest one."""
        return self.pending_waits[0] if self.pending_waits else None

    def refresh(self) -> BoundExecution:
        """The same execution as it is now."""
        return self._client.executions.get(self.exec_id)

    def cancel(self, *, reason: str | None = None) -> BoundExecution:
        """See Executions.cancel."""
        return self._client.executions.cancel(self.exec_id, reason=reason)

    def resume(self, **options: Any) -> FlowHandle:
        """See Executions.resume."""
        return self._client.executions.resume(self.exec_id, **options)

    def retry(self, **options: Any) -> FlowHandle:
        """See Executions.retry."""
        return self._client.executions.retry(self.exec_id, **options)

    def replay(self, **given: Any) -> FlowHandle:
        """See Executions.replay."""
        return self._client.executions.replay(self.exec_id, **given)

    def list_artifacts(self, **given: Any) -> list[ArtifactRef]:
        """See Artifacts.list."""
        return self._client.artifacts.list(self.exec_id, **given)

    def list_checkpoints(self) -> tuple[CheckpointCall, ...]:
        return self.checkpoints or self.refresh().checkpoints


def bind(client: KitaruClient, execution: Execution) -> BoundExecution:
    fields = {name: getattr(execution, name) for name in Execution.model_fields}
    bound = BoundExecution.model_construct(**fields)
    bound._client = client
    return bound
