"""A replay's plan as people read it: what is reused, what executes again, how long that took and what it used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kitaru_registry.executions.journal import Row
from kitaru_registry.executions.replaying import Known, Plan, is_inner
from kitaru_registry.executions.superseding import current_rows
from kitaru_registry.executions.views import PlannedCall, ReplayPlan, Usage
from kitaru_registry.models import ExecutionId

KINDS = {"c": "checkpoint", "w": "wait", "x": "child"}


def replay_plan(row: Any, known: Known, plan: Plan, *, version: str, inputs: Mapping[str, Any]) -> ReplayPlan:
    """
    Args:
        row: the original, of the table of executions.
        version: what the replay would execute.
    """
    calls = planned_calls(known, plan)
    again = [call for call in calls if call.does == "executes"]
    return ReplayPlan(
        exec_id=ExecutionId(row.exec_id),
        flow=row.flow,
        version=version,
        original_version=f"v{row.version}" if row.version is not None else "source",
        from_=plan.begins_at,
        inputs=dict(inputs),
        calls=tuple(calls),
        seconds=sum(call.seconds or 0.0 for call in again),
        usage=summed(call.usage for call in again),
    )


def planned_calls(known: Known, plan: Plan) -> list[PlannedCall]:
    current, _ = current_rows(known.rows, known.replay)
    rows = [c.row for c in current if c.row.kind in KINDS]
    keys, does = {row.key for row in rows}, what_becomes(plan)
    found = [as_planned(row, does.get(row.key, "executes")) for row in rows if not is_inner(row.key, keys)]
    unrecorded = [
        *(PlannedCall(key=it.key, kind="checkpoint", does="given") for it in plan.given if it.key not in keys),
        *(PlannedCall(key=key, kind="wait", does="given") for key in plan.answered if key not in keys),
    ]
    return [*found, *unrecorded]


def what_becomes(plan: Plan) -> dict[str, str]:
    """Of the keys that do not execute again."""
    found = {it.key: "reused" if at < plan.reused else "kept" for at, it in enumerate(plan.copied)}
    return found | dict.fromkeys([*(it.key for it in plan.given), *plan.answered], "given")


def as_planned(row: Row, does: str) -> PlannedCall:
    return PlannedCall(
        key=row.key, kind=KINDS[row.kind], does=does, seconds=seconds_of(row), usage=usage_of(row.metadata)
    )


def seconds_of(row: Row) -> float | None:
    return None if row.started_us is None else max(0, row.ended_us - row.started_us) / 1_000_000


def usage_of(metadata: str | None) -> Usage | None:
    """The sum over what was logged as `llm_calls`: a mapping of names to numbers; None where nothing was."""
    calls = (json.loads(metadata) if metadata else {}).get("llm_calls")
    if not isinstance(calls, dict):
        return None
    return summed(as_usage(call) for call in calls.values() if isinstance(call, dict))


def as_usage(call: Mapping[str, Any]) -> Usage:
    cost = next((call[name] for name in ("cost", "cost_usd") if is_number(call.get(name))), None)
    tokens = [call[name] if is_number(call.get(name)) else 0 for name in ("tokens_input", "tokens_output")]
    return Usage(tokens_input=int(tokens[0]), tokens_output=int(tokens[1]), cost=None if cost is None else float(cost))


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def summed(usages: Any) -> Usage | None:
    found = [usage for usage in usages if usage is not None]
    return sum(found[1:], start=found[0]) if found else None
