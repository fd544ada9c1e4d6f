"""A replay's plan, and two executions side by side, as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import TYPE_CHECKING

from kitaru_cli.tables import Facts, Part, Styled, Table, bold, dim, status
from kitaru_cli.words import NO_TIME, counted, one_line, short_digest, short_id, size, took, value_line

if TYPE_CHECKING:
    from kitaru_registry.executions.views import CallDifference, ExecutionDiff, ReplayPlan, RetryPlan, Usage, ValueView

SHOWN_LENGTH = 60
"""Of a value in a line."""

SHOWN_BEFORE = 20
"""Of what two long values have in common, before they differ."""

WORDS = {"executes": "yellow", "given": "cyan", "kept": "cyan", "stays": "cyan", "reused": "bright_black"}
SIGNS = {"same": ("=", "bright_black"), "changed": ("~", "yellow"), "added": ("+", "green"), "removed": ("-", "red")}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def seconds_text(seconds: float | None) -> str:
    return NO_TIME if seconds is None else took(EPOCH, EPOCH + timedelta(seconds=seconds))


def plan_text(plan: ReplayPlan | RetryPlan) -> Sequence[Part]:
    rows = [
        (call.key, call.kind, Styled(call.does, WORDS[call.does]), seconds_text(call.seconds), usage_text(call.usage))
        for call in plan.calls
    ]
    columns = ("call", "kind", "will be", "took", "used" if any(row[-1] for row in rows) else "")
    table = Table(columns, rows, wraps=frozenset({"call"}), right=frozenset({"took"}))
    return [*([table] if rows else []), *([""] if rows else []), dim(plan_summary(plan))]


def plan_summary(plan: ReplayPlan | RetryPlan) -> str:
    again = sum(call.does == "executes" for call in plan.calls)
    used = f", {usage_text(plan.usage)}" if plan.usage is not None else ""
    before = f"; they took {seconds_text(plan.seconds)}{used}" if again else ""
    stays = "stays" if len(plan.calls) - again == 1 else "stay"
    executes = "executes" if again == 1 else "execute"
    return f"{counted(len(plan.calls) - again, 'call')} of {len(plan.calls)} {stays}, {again} {executes} again{before}"


def plan_notes(plan: ReplayPlan) -> Sequence[Part]:
    where = f"begins at {plan.from_}" if plan.from_ is not None else "reuses all that is recorded"
    of = f"a replay of {short_id(plan.exec_id)} ({plan.original_version}) on {plan.version}"
    return [dim(f"{of} {where}; nothing was made")]


def usage_text(usage: Usage | None) -> str:
    """`1,200 + 340 tokens, 0.0123`; empty where nothing was logged."""
    if usage is None:
        return ""
    cost = f", cost {usage.cost:.4f}" if usage.cost is not None else ""
    return f"{usage.tokens_input:,} + {usage.tokens_output:,} tokens{cost}"


def diff_text(diff: ExecutionDiff, *, show_same: bool) -> Sequence[Part]:
    parts: list[Part] = [sides(diff)]
    if diff.code:
        parts += ["", bold("code"), *diff.code]
    if diff.inputs:
        rows = [(name, " -> ".join(apart(input_text(a), input_text(b)))) for name, (a, b) in diff.inputs.items()]
        parts += ["", bold("inputs"), Facts(rows)]
    shown = [call for call in diff.calls if show_same or call.change != "same"]
    if shown:
        parts += ["", calls_table(shown), *values_of(shown)]
    same = sum(call.change == "same" for call in diff.calls)
    parts += ["", dim(f"{counted(same, 'call')} of {len(diff.calls)} {'is' if same == 1 else 'are'} the same")]
    if diff.result is not None:
        before, after = apart(*(value_words(value) for value in diff.result))
        parts += ["", bold("result"), f"- {before}", f"+ {after}"]
    elif diff.a.status == diff.b.status == "completed":
        parts += [dim("the results are the same")]
    return parts


def sides(diff: ExecutionDiff) -> Table:
    rows = [
        (short_id(side.exec_id), f"{side.flow} {side.version}", status(side.status), str(side.calls),
         seconds_text(side.seconds), usage_text(side.usage))
        for side in (diff.a, diff.b)
    ]  # fmt: skip
    columns = ("execution", "flow", "status", "calls", "took", "used" if any(row[-1] for row in rows) else "")
    return Table(columns, rows, wraps=frozenset({"flow"}), right=frozenset({"calls", "took"}))


def calls_table(calls: Sequence[CallDifference]) -> Table:
    rows = [
        (
            Styled(*SIGNS[call.change]),
            call.key,
            ", ".join(call.what) or call.change,
            seconds_text(call.a_seconds),
            seconds_text(call.b_seconds),
        )
        for call in calls
    ]
    columns = (" ", "call", "differs", "took", "other took")
    return Table(columns, rows, wraps=frozenset({"call"}), right=frozenset({"took", "other took"}))


def values_of(calls: Sequence[CallDifference]) -> list[Part]:
    """What each call that differs gave, before and after."""
    parts: list[Part] = []
    for call in calls:
        if not {"value", "error"} & set(call.what) and call.change not in ("added", "removed"):
            continue
        before, after = apart(outcome_words(call.a_error, call.a), outcome_words(call.b_error, call.b))
        parts += ["", bold(call.key)]
        parts += [f"- {before}"] if call.change != "added" else []
        parts += [f"+ {after}"] if call.change != "removed" else []
    return parts


def outcome_words(error: str | None, value: ValueView | None) -> str:
    return one_line(error) if error else value_words(value)


def value_words(value: ValueView | None) -> str:
    if value is None:
        return "nothing"
    if value.type == "digest":
        return f"not kept, {short_digest(value.digest or '')}"
    if value.value is None and value.bytes > SHOWN_LENGTH:
        return f"{value.type}, {size(value.bytes)}, {short_digest(value.digest or '')}"
    return value_line(value.value)


def input_text(value: object) -> str:
    return "none" if value is None else value_line(value)


def apart(before: str, after: str) -> tuple[str, str]:
    """Both in a line: where one is too long for that, from shortly before the place where they begin to differ."""
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(before, after, strict=False))
    same = sum(1 for _ in alike)
    begin = same - SHOWN_BEFORE if max(len(before), len(after)) > SHOWN_LENGTH and same > SHOWN_BEFORE else 0
    return part_of(before, begin), part_of(after, begin)


def part_of(text: str, begin: int) -> str:
    if not begin and len(text) <= SHOWN_LENGTH:
        return text
    shown = text[begin : begin + SHOWN_LENGTH]
    after = " ..." if begin + len(shown) < len(text) else ""
    return f"{'... ' if begin else ''}{shown}{after} ({len(text):,} characters)"
