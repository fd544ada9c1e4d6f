"""An execution's record that can be acted on: what `KitaruClient().executions` answers with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from pydantic import PrivateAttr

from kitaru_registry.models import CheckpointCall, ErrorDetail, Execution, Wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitaru.artifact_client import ArtifactRef
    from kitaru.handle import FlowHandle
    from kitaru.session import Session


class Verbs(Protocol):
    """What can be asked for by an execution's id, as `kitaru.executions.Executions` has it."""

    def get(self, exec_id: str) -> BoundExecution: ...

    def cancel(self, exec_id: str, *, reason: str | None = None) -> BoundExecution: ...

    @property
    def resume(self) -> Callable[..., FlowHandle]: ...

    @property
    def retry(self) -> Callable[..., FlowHandle]: ...

    @property
    def replay(self) -> Callable[..., FlowHandle]: ...


class BoundExecution(Execution):
    """A frozen record, as of when it was read; `refresh()` reads it again."""

    _session: Session = PrivateAttr()
    _executions: Verbs = PrivateAttr()

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
        return self._executions.get(self.exec_id)

    def cancel(self, *, reason: str | None = None) -> BoundExecution:
        """See Executions.cancel."""
        return self._executions.cancel(self.exec_id, reason=reason)

    def resume(self, **options: Any) -> FlowHandle:
        """See Executions.resume."""
        return self._executions.resume(self.exec_id, **options)

    def retry(self, **options: Any) -> FlowHandle:
        """See Executions.retry."""
        return self._executions.retry(self.exec_id, **options)

    def replay(self, **given: Any) -> FlowHandle:
        """See Executions.replay."""
        return self._executions.replay(self.exec_id, **given)

    def list_artifacts(self, **given: Any) -> list[ArtifactRef]:
        """See Artifacts.list."""
        from kitaru.artifact_client import Artifacts

        return Artifacts(self._session).list(self.exec_id, **given)

    def list_checkpoints(self) -> tuple[CheckpointCall, ...]:
        return self.checkpoints or self.refresh().checkpoints


def bind(session: Session, executions: Verbs, execution: Execution) -> BoundExecution:
    fields = {name: getattr(execution, name) for name in Execution.model_fields}
    bound = BoundExecution.model_construct(**fields)
    bound._session = session
    bound._executions = executions
    return bound
