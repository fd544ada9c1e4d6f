"""A deployed execution is replayed, on its version, on another, in the working tree; a failed one is retried."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.stories.conftest import Place

FLOW = """
from datetime import date
from pathlib import Path

from pydantic import BaseModel

from kitaru import checkpoint, flow, log, wait

HERE = Path("HOME")


class Quote(BaseModel):
    day: date
    cents: int


def ran(what: str) -> None:
    with (HERE / "ran").open("a") as file:
        file.write(what + " ")


@checkpoint
def collect(item: str) -> list[int]:
    ran("collect")
    log(llm_calls={"collect": {"tokens_input": 1200, "tokens_output": 300, "cost": 0.25}})
    return [3, 4]


@checkpoint
def quote(prices: list[int], day: date) -> Quote:
    ran("quote")
    if not (HERE / "open").exists():
        raise ConnectionError("the market is closed")
    return Quote(day=day, cents=sum(prices))


@checkpoint(replay="never")
def book(given: Quote) -> str:
    ran("book")
    return f"booked {given.cents} on {given.day}"


@flow
def price(item: str, day: date, urgent: bool = False) -> str:
    given = quote(collect(item), day)
    if not urgent and not wait(name="approve", schema=bool):
        return "Rejected"
    return book(given)
"""
INPUT = '{"item": "tea", "day": "2026-01-31"}'


@pytest.fixture(scope="module")
def market(shared_place: Place) -> Place:
    """`price` v1 and v2 (which asks another wait first), and the working tree, which adds 100 to every price."""
    flow = shared_place.repository.root / "flows" / "price.py"
    text = FLOW.replace("HOME", str(shared_place.home.root))
    flow.write_text(text)
    shared_place.deploy("flows/price.py:price")
    flow.write_text(text.replace("    given = quote", "    log(version=2)\n    given = quote"))
    shared_place.deploy("flows/price.py:price")
    flow.write_text(text.replace("sum(prices)", "sum(prices) + 100"))
    return shared_place


def ran(market: Place) -> list[str]:
    path = market.home.root / "ran"
    found = path.read_text().split() if path.exists() else []
    path.write_text("")
    return found


def replayed(market: Place, exec_id: str, *options: str, expect: int = 0) -> dict[str, Any]:
    return market("executions", "replay", exec_id, *options, expect=expect).item


@pytest.fixture(scope="module")
def booked(market: Place) -> str:
    (market.home.root / "open").touch()
    waiting = market.invoke("price@v1", INPUT, expect=6)
    done = market.answer(waiting["exec_id"], "true")
    assert done["result"] == "booked 7 on 2026-01-31"
    return str(done["exec_id"])


@pytest.fixture(autouse=True)
def nothing_ran(market: Place, booked: str) -> None:
    ran(market)


def test_a_replay_runs_on_the_same_version_and_books_nothing_twice(market: Place, booked: str) -> None:
    made = replayed(market, booked, "--from", "quote", expect=6)

    done = market.answer(made["exec_id"], "true")

    assert (done["result"], done["version"], done["original_exec_id"]) == ("booked 7 on 2026-01-31", 1, booked)
    assert ran(market) == ["quote"]
    assert {call["key"]: call["reused"] for call in done["checkpoints"]} == {
        "collect": True, "quote": False, "book": True,
    }  # fmt: skip


def test_answers_before_the_beginning_are_reused(market: Place, booked: str) -> None:
    overrides = '{"checkpoint.book": "by hand"}'

    assert replayed(market, booked, "--overrides", overrides)["result"] == "by hand"
    assert ran(market) == []


def test_new_inputs_are_checked_against_the_version(market: Place, booked: str) -> None:
    made = replayed(market, booked, "--from", "quote", "--args", '{"urgent": true, "day": "2027-02-28"}')
    refused = market("executions", "replay", booked, "--from", "quote", "--input", '{"urgen": true}', expect=2)

    assert made["result"] == "booked 7 on 2026-01-31"  # recorded, and never booked again
    assert made["inputs"] == {"item": "tea", "day": "2027-02-28", "urgent": True}
    assert "urgen" in refused.error["message"]


def test_a_model_is_given_by_its_fields(market: Place, booked: str) -> None:
    overrides = json.dumps({"checkpoint.quote": {"day": "2026-01-31", "cents": 1}, "wait.approve": False})

    made = replayed(market, booked, "--overrides", overrides)

    assert made["result"] == "Rejected"
    assert ran(market) == []


def test_another_version_that_goes_the_same_way_completes(market: Place, booked: str) -> None:
    made = replayed(market, booked, "--on", "v1", "--only-recorded")

    assert (made["status"], made["result"]) == ("completed", "booked 7 on 2026-01-31")
    assert ran(market) == []


def test_another_version_that_goes_another_way_diverges_and_can_be_accepted(market: Place, booked: str) -> None:
    made = replayed(market, booked, "--version", "v2", "--only-recorded", expect=1)
    assert (made["version"], made["error"]["origin"], made["error"]["checkpoint"]) == (2, "divergence", "log")

    refused = market("executions", "resume", made["exec_id"], "--accept", "quote", "--reason", "why not", expect=4)
    done = market("executions", "resume", made["exec_id"], "--accept", "log", "--reason", "v2 logs first")

    assert refused.error["message"].endswith("stopped at the call log, not at quote")
    assert done.item["error"] is None
    assert (done.item["status"], done.item["result"]) == ("completed", "booked 7 on 2026-01-31")
    assert [it["reason"] for it in done.item["accepted"]] == ["v2 logs first"]


def test_the_working_tree_runs_against_what_a_version_recorded(market: Place, booked: str) -> None:
    made = market(
        "run", "flows/price.py:price", "--replay", booked, "--from", "quote", "--input", '{"urgent": true}',
        "--overrides", '{"checkpoint.book": "not booked"}',
    ).item  # fmt: skip

    assert (made["kind"], made["original_exec_id"], made["result"]) == ("source", booked, "not booked")
    assert ran(market) == ["quote"]
    quotes = [call for call in market("diff", booked, made["exec_id"]).item["calls"] if call["key"] == "quote"]
    assert quotes[0]["a"]["value"]["cents"] + 100 == quotes[0]["b"]["value"]["cents"]


def test_a_dry_run_says_what_it_may_cost(market: Place, booked: str) -> None:
    before = market("executions", "list").json["count"]

    plan = replayed(market, booked, "--from", "collect", "--dry-run")

    assert [(call["key"], call["does"]) for call in plan["calls"]] == [
        ("collect", "executes"), ("quote", "executes"), ("approve", "executes"), ("book", "kept"),
    ]  # fmt: skip
    assert (plan["usage"]["tokens_input"], plan["usage"]["cost"]) == (1200, 0.25)
    assert market("executions", "list").json["count"] == before


def test_versions_are_compared_with_what_changed_in_their_code(market: Place, booked: str) -> None:
    waiting = market.invoke("price@v2", INPUT, expect=6)
    done = market.answer(waiting["exec_id"], "false")

    found = market("diff", booked, done["exec_id"]).item

    assert found["code"] == ["code: flows/price.py"]
    assert {call["key"]: call["change"] for call in found["calls"]} == {
        "collect": "same", "quote": "same", "approve": "changed", "book": "removed",
    }  # fmt: skip


def test_a_failed_execution_is_retried_on_its_version(market: Place) -> None:
    (market.home.root / "open").unlink()
    failed = market.invoke("price@v1", '{"item": "tea", "day": "2026-01-31", "urgent": true}', expect=1)
    (market.home.root / "open").touch()
    ran(market)

    told = market.cli.text("executions", "retry", failed["exec_id"])

    assert "goes on with the same code (v1); executes again: quote" in told.stderr
    assert ran(market) == ["quote", "book"]
    found = market("executions", "get", failed["exec_id"]).item
    assert (found["status"], found["result"]) == ("completed", "booked 7 on 2026-01-31")


def test_all_failed_ones_are_replayed_from_their_failures_on_another_version(market: Place) -> None:
    (market.home.root / "open").unlink()
    urgent = '{"item": "wine", "day": "2026-01-31", "urgent": true}'
    failed = [market.invoke("price@v1", urgent, expect=1)["exec_id"] for _ in range(2)]
    (market.home.root / "open").touch()
    which = ("--flow", "price", "--status", "failed", "--where", "item=wine")

    would = market("executions", "replay", *which, "--from", "failed", "--dry-run").items
    done = market("executions", "replay", *which, "--from", "failed", "--on", "v1", "--yes").items

    assert [it["exec_id"] for it in would] == [it["exec_id"] for it in done] == failed
    for it in done:
        assert it["ok"]
        market.settled(it["new_exec_id"], status="failed")  # book is guarded, and has no outcome


def test_a_version_that_is_not_there_is_refused(market: Place, booked: str) -> None:
    refused = market("executions", "replay", booked, "--on", "v9", "--from", "quote", expect=3)

    assert refused.error["message"].startswith("price has no v9")
