"""What a replay's plan says of a journal: what is reused, what executes again, what is kept and given."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from kitaru_registry.errors import KitaruConflictError, KitaruNotFoundError, KitaruUsageError
from kitaru_registry.executions.journal import Row, Value
from kitaru_registry.executions.planned import replay_plan, usage_of
from kitaru_registry.executions.replaying import (
    FAILED,
    AskedWait,
    Given,
    Known,
    Plan,
    Wanted,
    parse_overrides,
    plan,
)
from kitaru_registry.journal.entries import REPLAY_NEVER

CANCELLED = json.dumps({"class": "asyncio.exceptions:CancelledError", "type": "CancelledError", "message": ""})
FAILURE = json.dumps({"class": "builtins:ValueError", "type": "ValueError", "message": "no"})


def journal(*rows: Row | str) -> list[Row]:
    """Rows with numbers; a text is a checkpoint of that key."""
    given = [Row("c", row, 1, value=Value("str", b"", None)) if isinstance(row, str) else row for row in rows]
    return [row._replace(seq=seq) for seq, row in enumerate(given, 1)]


def failed(key: str) -> Row:
    return Row("c", key, 1, error=FAILURE)


def guarded(key: str) -> Row:
    return Row("c", key, 1, flags=REPLAY_NEVER)


def retried(*keys: str) -> Row:
    return Row("r", "retry", 1, metadata=json.dumps({"superseded": list(keys)}))


def planned(
    rows: Sequence[Row | str], from_: str | None = None, *, overrides: dict[str, Any] | None = None, keeps: bool = True,
    **known: Any,
) -> Plan:  # fmt: skip
    return plan(Known("the-id", journal(*rows), **known), Wanted(from_, parse_overrides(overrides or {})), keeps=keeps)


def reused(found: Plan) -> list[str]:
    return [row.key for row in found.copied[: found.reused]]


def behind(found: Plan) -> list[str]:
    return [row.key for row in found.copied[found.reused :]]


def again(found: Plan) -> list[str]:
    return [row.key for row in found.executes]


# From


def test_what_was_recorded_before_the_call_is_reused_in_order() -> None:
    found = planned(["a", "map[1]/b", "map[0]/b", "c"], "map[0]/b")

    assert (reused(found), behind(found), again(found)) == (["a", "map[1]/b"], [], ["map[0]/b", "c"])
    assert found.begins_at == "map[0]/b"


def test_everything_is_reused_where_nothing_is_asked_for() -> None:
    found = planned(["a", "b"])

    assert (reused(found), again(found), found.begins_at) == (["a", "b"], [], None)


def test_tries_of_the_call_itself_and_what_ran_in_them_are_not_reused() -> None:
    rows = ["a", "b/try1/inner", Row("t", "b", 1, tries=1), Row("d", "b!inputs", 1), "b/try2/inner", "b", "c"]

    found = planned(rows, "b")

    assert (reused(found), again(found)) == (["a"], ["b", "c"])


def test_tries_of_a_call_that_was_going_on_are_reused_as_after_a_crash() -> None:
    found = planned(["a", Row("t", "slow", 1, tries=1), "b", "slow"], "b")

    assert [(row.kind, row.key) for row in found.rows] == [("c", "a"), ("t", "slow")]


def test_a_call_within_a_checkpoint_can_be_the_beginning() -> None:
    found = planned(["a", "b/try1/one", "b/try1/two", "b"], "b/try1/two")

    assert (reused(found), again(found)) == (["a", "b/try1/one"], ["b"])


def test_logs_saves_and_noted_values_before_the_call_are_reused() -> None:
    rows = [Row("l", "log", 1), Row("n", "now", 1), Row("s", "save:x", 1), "a", Row("n", "now#2", 1)]

    assert reused(planned(rows, "a")) == ["log", "now", "save:x"]


def test_child_executions_and_answers_before_the_call_are_reused() -> None:
    rows = [Row("x", "child", 1), Row("w", "approve", 1), "a"]

    assert reused(planned(rows, "a", waits=[AskedWait("approve", "approve")])) == ["child", "approve"]


def test_a_name_will_do_where_one_call_has_it() -> None:
    assert planned(["a", "task[1]/fetch", "b"], "fetch").begins_at == "task[1]/fetch"


def test_a_key_comes_before_a_name() -> None:
    assert planned(["fetch", "fetch#2"], "fetch").begins_at == "fetch"


def test_a_name_of_several_calls_is_refused_with_their_keys() -> None:
    with pytest.raises(KitaruConflictError, match=r"2 calls of fetch: map\[0\]/fetch, map\[1\]/fetch$"):
        planned(["map[0]/fetch", "map[1]/fetch"], "fetch")


def test_an_unknown_name_is_refused_with_the_keys_there_are() -> None:
    with pytest.raises(KitaruNotFoundError, match="has no call drift; it has: draft, polish") as caught:
        planned(["draft", "polish"], "drift")

    assert caught.value.hint == "did you mean draft?"


def test_an_open_wait_can_be_the_beginning() -> None:
    found = planned(["a"], "approve", waits=[AskedWait("approve", "approve")])

    assert (reused(found), again(found)) == (["a"], [])


# Failed


def test_from_failed_is_the_first_failure_that_reached_the_top() -> None:
    rows = ["a", failed("caught"), failed("map[2]/b"), failed("map[0]/b"), "c"]

    found = planned(rows, FAILED, failed=["map[0]/b", "map[2]/b"])

    assert (found.begins_at, reused(found)) == ("map[2]/b", ["a", "caught"])


def test_from_failed_reuses_everything_where_the_flow_s_own_code_failed() -> None:
    found = planned(["a", "b"], FAILED)

    assert (reused(found), found.begins_at) == (["a", "b"], None)


def test_from_failed_is_refused_where_nothing_failed() -> None:
    with pytest.raises(KitaruConflictError, match="the-id is completed: it has not failed"):
        planned(["a"], FAILED, status="completed")


def test_from_failed_is_the_checkpoint_that_it_crashed_in() -> None:
    found = planned(["a"], FAILED, running=["b"])

    assert reused(found) == ["a"]


# Retries before


def test_superseded_failures_and_what_came_of_them_are_left_out() -> None:
    rows = ["a", failed("b"), Row("c", "task[1]/c", 1, error=CANCELLED), retried("b"), "b", "task[1]/c", "d"]

    found = planned(rows, "d")

    assert [row.seq for row in found.rows] == [1, 5, 6]


def test_what_was_recorded_behind_a_superseded_failure_stays_for_the_very_same_call() -> None:
    rows = ["a", failed("b"), "cleanup", "beside", retried("b"), "b", "c"]

    found = planned(rows, "c")

    assert (reused(found), behind(found)) == (["a", "b"], ["cleanup", "beside"])


def test_accepted_divergences_stay() -> None:
    said = json.dumps({"scope": "", "place": 1, "key": "c"})

    found = planned(["a", "b", Row("a", "accept", 1, metadata=said), "c", "d"], "b")

    assert [(row.kind, row.key) for row in found.rows] == [("c", "a"), ("a", "accept")]


def test_a_replay_of_a_replay_knows_which_rows_were_only_kept() -> None:
    found = planned(["a", guarded("charge"), "b", "c"], "c", replay={"reused": 1, "copied": 2})

    assert (reused(found), behind(found)) == (["a", "b"], ["charge"])


# Guarded checkpoints


def test_a_guarded_checkpoint_behind_the_beginning_is_kept() -> None:
    found = planned(["a", "b", guarded("charge"), "c"], "b")

    assert (reused(found), behind(found), again(found), found.kept) == (["a"], ["charge"], ["b", "c"], ("charge",))


def test_one_within_the_beginning_is_kept_too() -> None:
    found = planned(["a", guarded("b/try1/charge"), "b"], "b")

    assert (reused(found), behind(found)) == (["a"], ["b/try1/charge"])


def test_a_replay_cannot_begin_at_a_guarded_checkpoint() -> None:
    with pytest.raises(KitaruConflictError, match="checkpoint charge is guarded"):
        planned(["a", guarded("charge")], "charge")


def test_it_can_where_its_outcome_is_given() -> None:
    found = planned(["a", guarded("charge"), "b"], "charge", overrides={"checkpoint.charge": 1})

    assert (reused(found), behind(found), again(found)) == (["a", "charge"], [], ["b"])


# Overrides


def test_an_override_is_reused_in_its_place_and_what_follows_executes() -> None:
    found = planned(["a", "b", "c"], overrides={"checkpoint.b": 1})

    assert (reused(found), again(found), found.begins_at) == (["a", "b"], ["c"], "c")
    assert isinstance(found.copied[1], Given)


def test_the_earliest_of_overrides_and_beginning_is_the_cut() -> None:
    found = planned(["a", "b", "c", "d"], "d", overrides={"checkpoint.b": 1})

    assert (reused(found), behind(found), again(found)) == (["a", "b"], [], ["c", "d"])


def test_an_override_behind_the_cut_waits_for_its_call() -> None:
    found = planned(["a", "b", "c", "d"], "b", overrides={"checkpoint.d": 1, "checkpoint.c": 2})

    assert (reused(found), behind(found), again(found)) == (["a"], ["d", "c"], ["b"])


def test_an_overridden_answer_is_given_by_its_wait() -> None:
    rows = ["a", Row("w", "approve", 1), "b"]

    found = planned(rows, overrides={"wait.approve": True}, waits=[AskedWait("approve", "approve")])

    assert (reused(found), behind(found), again(found), list(found.answers)) == (["a"], [], ["b"], ["approve"])


def test_one_of_a_group_of_waits_can_be_overridden() -> None:
    rows = ["a", Row("w", "any", 1), "b"]
    waits = [AskedWait("any/lead", "lead", "any"), AskedWait("any/manager", "manager", "any")]

    assert list(planned(rows, overrides={"wait.manager": True}, waits=waits).answers) == ["any/manager"]


def test_a_guarded_call_that_a_replay_refused_can_be_given() -> None:
    said = Row("d", "charge!guarded", 1, metadata=json.dumps({"warning": "", "place": 3}))

    (_, given) = planned(["a", said], overrides={"checkpoint.charge": 1}).copied

    assert isinstance(given, Given)
    assert (given.key, given.place) == ("charge", 3)


@pytest.mark.parametrize(
    ("overrides", "error", "said"),
    [
        ({"checkpoint.nothing": 1}, KitaruNotFoundError, "has no checkpoint nothing; it has: a, b"),
        ({"wait.a": 1}, KitaruNotFoundError, "has no wait a; it has: none"),
        ({"checkpoint.approve": 1}, KitaruNotFoundError, "has no checkpoint approve"),
        ({"a": 1}, KitaruUsageError, "'a' names neither a checkpoint nor a wait"),
        ({"step.a": 1}, KitaruUsageError, "'step.a' names neither"),
        ({"checkpoint.b": 1, "checkpoint.task[0]/b": 2}, KitaruUsageError, r"are both task\[0\]/b"),
    ],
)
def test_an_override_that_fits_nothing_is_refused(overrides: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        planned(["a", "task[0]/b"] if "checkpoint.task[0]/b" in overrides else ["a", "b"], overrides=overrides)


def test_code_of_the_first_protocol_is_given_nothing_behind_the_cut() -> None:
    rows = ["a", failed("b"), "beside", retried("b"), "b", "c"]

    assert behind(planned(rows, "c", keeps=False)) == []
    with pytest.raises(KitaruConflictError, match="which this version cannot do"):
        planned(["a", "b", "c"], "a", overrides={"checkpoint.c": 1}, keeps=False)


# What it costs


def test_the_dry_run_sums_what_executes_again() -> None:
    def llm(key: str, tokens: int, cost: float) -> Row:
        said = {"llm_calls": {"one": {"tokens_input": tokens, "tokens_output": 1, "cost": cost}, "two": {}}}
        return Row("c", key, 3_000_000, started_us=1_000_000, metadata=json.dumps(said))

    known = Known("the-id", journal(llm("a", 5, 0.5), llm("b", 7, 0.25), llm("c", 9, 0.5), guarded("charge")))
    row = type("Row", (), {"exec_id": "the-id", "flow": "f", "version": 3})

    shown = replay_plan(row, known, plan(known, Wanted("b")), version="v4", inputs={})

    assert [(call.key, call.does) for call in shown.calls] == [
        ("a", "reused"), ("b", "executes"), ("c", "executes"), ("charge", "kept"),
    ]  # fmt: skip
    assert shown.usage is not None
    assert (shown.seconds, shown.usage.tokens_input, shown.usage.tokens_output) == (4.0, 16, 2)
    assert shown.usage.cost == 0.75
    assert (shown.original_version, shown.version, shown.from_) == ("v3", "v4", "b")


@pytest.mark.parametrize("metadata", [None, {}, {"llm_calls": "many"}, {"llm_calls": {"one": {"tokens_input": None}}}])
def test_metadata_of_any_shape_costs_nothing(metadata: Any) -> None:
    usage = usage_of(json.dumps(metadata) if metadata is not None else None)

    assert usage is None or (usage.tokens_input, usage.cost) == (0, None)
