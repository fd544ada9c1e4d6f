"""`path.py:flow` in the working tree: run in this process, or against what another execution recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kitaru.client import KitaruClient
from kitaru.handle import FlowHandle
from kitaru.running import new_inputs, replay_here, run_here
from kitaru_registry.home import Home
from kitaru_runner.child.loader import find_flow, load_module, split_target

if TYPE_CHECKING:
    from kitaru.definition import FlowDefinition
    from kitaru.replaying import Request


def run_target(
    target: str, inputs: Mapping[str, Any], *, home: Home | None = None, cwd: Path | None = None
) -> FlowHandle:
    """Load `path.py:flow` from the working tree and start it in this process.

    Raises:
        KitaruNotFoundError, KitaruUsageError: there is no such file or flow, or the inputs do not fit.
    """
    client, flow = load_target(target, home=home, cwd=cwd)
    from kitaru_registry.schemas import check_inputs
    from kitaru_runner.values.signatures import convert_inputs, input_schema

    check_inputs(input_schema(flow.function), dict(inputs))
    return run_here(flow, convert_inputs(flow.function, inputs), session=client)


def load_target(target: str, *, home: Home | None, cwd: Path | None) -> tuple[KitaruClient, FlowDefinition]:
    """The flow of `path.py:flow` in the working tree, and a client for its project.

    Raises:
        KitaruNotFoundError, KitaruUsageError: there is no such file or flow.
    """
    file_name, name = split_target(target)
    file = ((cwd or Path.cwd()) / file_name).resolve()
    client = KitaruClient(home, cwd=file.parent)
    return client, find_flow(load_module(client.config.root, file), name, file=file_name)


def replay_target(
    target: str, exec_id: str, request: Request, *, home: Home | None = None, cwd: Path | None = None
) -> FlowHandle:
    """Run the working tree's `path.py:flow` in this process against what another execution recorded.

    Raises:
        KitaruError: see replay_here, run_target.
    """
    client, flow = load_target(target, home=home, cwd=cwd)
    return replay_here(client, flow, exec_id, replace(request, inputs=new_inputs(flow, request.inputs)))
