"""What is shown of replays before they are made, and of two executions side by side."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from kitaru_registry.models import ExecutionId, Record


class Usage(Record):
    """What language models were asked for, as `llm_calls` in the metadata of checkpoints says."""

    tokens_input: int = 0
    tokens_output: int = 0
    cost: float | None = None
    """In the currency that was logged; None where nothing was."""

    def __add__(self, other: Usage) -> Usage:
        costs = [cost for cost in (self.cost, other.cost) if cost is not None]
        return Usage(
            tokens_input=self.tokens_input + other.tokens_input,
            tokens_output=self.tokens_output + other.tokens_output,
            cost=sum(costs) if costs else None,
        )


class PlannedCall(Record):
    key: str
    kind: str
    """`checkpoint`, `wait` or `child`"""
    does: str
    """`reused`; `given`: by an override; `kept`: recorded behind the beginning, and never executed by a replay;
    `stays`: recorded behind a failure that a retry supersedes, and used where the very same call is made;
    `executes`."""
    seconds: float | None = None
    """How long it took when it was recorded."""
    usage: Usage | None = None


class ReplayPlan(Record):
    """What a replay would do. Nothing was made yet."""

    exec_id: ExecutionId
    """Of the execution that is replayed."""
    flow: str
    version: str
    """`v3`, or `source`: what the replay executes."""
    original_version: str
    from_: str | None = Field(alias="from")
    """The key of the first call that executes again."""
    inputs: dict[str, Any]
    calls: tuple[PlannedCall, ...]
    """Those that are recorded, in order; what the flow does behind them is not known."""
    seconds: float
    """How long what executes took before, one after another."""
    usage: Usage | None
    """What it asked language models for before."""


class RetryPlan(Record):
    """What a retry would do. Nothing was made yet."""

    exec_id: ExecutionId
    flow: str
    version: str
    """`v3`, or `source`"""
    calls: tuple[PlannedCall, ...]
    """Those that are recorded, in order; what the flow does behind them is not known."""
    seconds: float
    """How long what executes took before, one after another."""
    usage: Usage | None
    """What it asked language models for before."""


class ValueView(Record):
    """A recorded value to show. One that is large is given by size and digest alone."""

    type: str | None = None
    """How it was encoded."""
    value: Any = None
    bytes: int = 0
    digest: str | None = None


class CallDifference(Record):
    key: str
    kind: str
    """`checkpoint`, `wait` or `child`"""
    change: str
    """`same`, `changed`, `added` or `removed`, seen from the first to the second."""
    what: tuple[str, ...] = ()
    """Of a changed one: `value`, `inputs`, `error`."""
    a: ValueView | None = None
    b: ValueView | None = None
    a_error: str | None = None
    b_error: str | None = None
    a_seconds: float | None = None
    b_seconds: float | None = None


class Side(Record):
    exec_id: ExecutionId
    flow: str
    version: str
    status: str
    seconds: float | None
    """From its start to its end."""
    error: str | None
    calls: int
    usage: Usage | None = None
    """Of a replay: without what it reused."""


class ExecutionDiff(Record):
    a: Side
    b: Side
    inputs: dict[str, tuple[Any, Any]]
    """Of those that differ: what each had; null for none."""
    result: tuple[ValueView | None, ValueView | None] | None
    """None where both have the same."""
    calls: tuple[CallDifference, ...]
    """In the order of the second, and the removed ones where they were."""
    code: tuple[str, ...] = ()
    """What differs between the two versions, in words."""

    @property
    def is_same(self) -> bool:
        return not self.inputs and self.result is None and all(call.change == "same" for call in self.calls)


class BulkResult(Record):
    """What came of doing something to one of many executions."""

    exec_id: ExecutionId
    flow: str
    action: str
    """`cancel`, `retry`, `replay`"""
    ok: bool
    status: str
    """Of the execution, or of the one that was made, right after."""
    new_exec_id: ExecutionId | None = None
    message: str | None = None
    """Why not."""
