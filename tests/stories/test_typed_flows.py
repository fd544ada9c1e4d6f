"""Models, literals and times go in and come out as what the flow's annotations say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.stories.conftest import Place

ORDER = {"customer": "Ada", "lines": [{"name": "gear", "count": 3}, {"name": "card", "count": 40}]}
INPUTS = {"order": ORDER, "ordered_at": "1843-07-10T12:00:00Z", "currency": "JPY"}
BOTH = pytest.mark.parametrize("flow", ["purchase", "purchase_async"])


@BOTH
def test_a_typed_answer_sets_a_typed_flow_going(shared_place: Place, flow: str) -> None:
    waiting = shared_place.invoke(flow, json.dumps(INPUTS), expect=6)
    (wait,) = waiting["pending_waits"]
    assert wait["schema"]["properties"]["verdict"]["enum"] == ["accept", "refuse"]

    done = shared_place.answer(waiting["exec_id"], '{"verdict": "accept", "deliver_at": "1843-08-01T09:30:00+02:00"}')

    assert done["result"] == {
        "customer": "Ada",
        "pieces": 43,
        "currency": "JPY",
        "ordered_at": "1843-07-10T12:00:00+00:00",
        "deliver_at": "1843-08-01T09:30:00+02:00",
    }
    assert done["inputs"] == INPUTS


def test_what_is_left_out_takes_its_default(shared_place: Place) -> None:
    inputs = {"order": ORDER, "ordered_at": "1843-07-10T12:00:00"}
    exec_id = shared_place.invoke("purchase", json.dumps(inputs), expect=6)["exec_id"]

    receipt = shared_place.answer(exec_id, '{"verdict": "accept"}')["result"]

    assert (receipt["currency"], receipt["deliver_at"]) == ("EUR", "1843-07-11T12:00:00")


UNFIT = {
    "currency": INPUTS | {"currency": "USD"},
    "ordered_at": INPUTS | {"ordered_at": "yesterday"},
    "count": INPUTS | {"order": {"customer": "Ada", "lines": [{"name": "gear", "count": 0}]}},
    "customer": INPUTS | {"order": {"lines": []}},
    "order": {"ordered_at": INPUTS["ordered_at"]},
}


def test_an_input_that_does_not_fit_is_named_before_anything_starts(place: Place) -> None:
    for named, inputs in UNFIT.items():
        refused = place("invoke", "purchase", "--input", json.dumps(inputs), expect=2)
        assert refused.error["type"] == "KitaruUsageError"
        assert named in refused.error["message"]

    assert place("executions", "list").items == []


def test_an_answer_that_does_not_fit_leaves_the_flow_waiting(shared_place: Place) -> None:
    exec_id = shared_place.invoke("purchase_async", json.dumps(INPUTS), expect=6)["exec_id"]

    refused = shared_place("executions", "input", exec_id, "--value", '{"verdict": "maybe"}', expect=2)

    assert refused.error["type"] == "KitaruWaitValidationError"
    assert "verdict" in refused.error["message"]
    assert shared_place("executions", "get", exec_id).item["status"] == "waiting"
    assert shared_place.answer(exec_id, '{"verdict": "refuse"}')["result"] is None
