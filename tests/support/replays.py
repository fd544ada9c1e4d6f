"""What tests of replays ask of an execution."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kitaru_registry.errors import KitaruUserCodeError

if TYPE_CHECKING:
    from tests.sdk.conftest import Project

    from kitaru import FlowHandle
    from kitaru_registry.models import Execution


def ran(project: Project) -> list[str]:
    """What executed since this was asked last."""
    path = project.root / "ran"
    found = path.read_text().split() if path.exists() else []
    path.write_text("")
    return found


def completed(handle: FlowHandle) -> str:
    handle.wait(60)
    return str(handle.exec_id)


def failed(handle: FlowHandle) -> str:
    with pytest.raises(KitaruUserCodeError):
        handle.wait(60)
    return str(handle.exec_id)


def record(project: Project, handle: FlowHandle) -> Execution:
    return project.client.executions.get(handle.exec_id)


def reused(execution: Execution) -> dict[str, bool]:
    return {call.key: call.reused for call in execution.checkpoints}
