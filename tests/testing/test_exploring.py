"""`explore` and `crash_everywhere`: a fault that shows in one order, or after one crash, is found and found again."""

from __future__ import annotations

from typing import Any

import pytest
import tested_flows as flows

from kitaru import KitaruUsageError, testing

Good = tuple[Any, tuple[Any, ...], dict[str, Any]]
GOOD: list[Good] = [
    (flows.order, ("tea",), {"approve": True}),
    (flows.order, ("tea",), {}),
    (flows.gathered, (), {"more": []}),
    (flows.journey, (), {"agree": True}),
    (flows.tells_time, (), {}),
]
NAMES = [f"{case[0].name} {sorted(case[2])}" for case in GOOD]


@pytest.fixture(autouse=True)
def _nothing_happened() -> None:
    reset()


def reset() -> None:
    flows.charged.clear()
    flows.payments.clear()
    flows.seats.clear()


def completed(outcome: testing.Outcome) -> None:
    assert outcome.status == "completed"


@pytest.mark.parametrize(("flow", "args", "answers"), GOOD, ids=NAMES)
def test_nothing_is_found_in_a_good_flow(flow: Any, args: Any, answers: Any) -> None:
    check = completed if flow is flows.tells_time else None

    assert testing.explore(flow, *args, seeds=range(10), answers=answers, reset=reset, check=check) == 11


@pytest.mark.parametrize(("flow", "args", "answers"), GOOD[:4], ids=NAMES[:4])
def test_a_good_flow_survives_a_crash_at_each_of_its_writes(flow: Any, args: Any, answers: Any) -> None:
    writes = sum(testing.run(flow, *args, answers=answers).writes)
    reset()

    assert testing.crash_everywhere(flow, *args, answers=answers, reset=reset) == 1 + 2 * writes


def found(call: Any, flow: Any, **options: Any) -> testing.ExplorationFailed:
    with pytest.raises(testing.ExplorationFailed) as raised:
        call(flow, reset=reset, **options)
    return raised.value


@pytest.mark.parametrize("call", [testing.explore, testing.crash_everywhere])
def test_a_body_that_makes_up_values_is_found(call: Any) -> None:
    failed = found(call, flows.forgets_that_a_body_runs_again, check=completed)

    assert "keep was recorded with other arguments" in str(failed)


@pytest.mark.parametrize("call", [testing.explore, testing.crash_everywhere])
def test_a_body_that_goes_another_way_is_found(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ways = iter([0.9, *[0.1, 0.9] * 500])
    monkeypatch.setattr(flows.random, "random", lambda: next(ways))

    failed = found(call, flows.goes_another_way, check=lambda outcome: None)

    assert "is not the same in every attempt: call 1 is" in str(failed)


def test_an_effect_that_happens_twice_is_found_with_the_write_that_was_lost() -> None:
    def check(outcome: testing.Outcome) -> None:
        assert flows.payments == [3]

    failed = found(testing.crash_everywhere, flows.pays_at_least_once, check=check)

    assert str(failed).startswith("crash before write 1 (checkpoint pay): AssertionError")
    assert failed.call == "testing.run(pays_at_least_once, crash_at=testing.crash_at(1))"
    assert isinstance(failed.__cause__, AssertionError)


def test_what_pytest_fails_with_is_a_finding_too() -> None:
    failed = found(testing.explore, flows.pays_at_least_once, check=lambda outcome: pytest.fail("not so"))

    assert str(failed).startswith("without a crash: Failed: not so\nagain: testing.run(pays_at_least_once)")


def test_a_check_takes_the_place_of_the_comparison() -> None:
    results: set[int] = set()
    testing.explore(flows.races, seeds=range(60), reset=reset, check=lambda outcome: results.add(outcome.result))

    assert results >= {0, 1}


def test_a_race_is_found_and_its_seed_finds_it_again() -> None:
    failed = found(testing.explore, flows.races, seeds=range(300))

    assert failed.undisturbed.result == 0
    assert failed.outcome.result == 1
    reset()
    again = eval(failed.call, {"testing": testing, "races": flows.races})
    assert again.result == 1


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("flow", "args", "answers"), GOOD[:3], ids=NAMES[:3])
def test_a_seed_does_the_same_again(flow: Any, args: Any, answers: Any, seed: int) -> None:
    def told() -> list[Any]:
        reset()
        outcome = testing.run(flow, *args, answers=answers, seed=seed)
        return [outcome.journal, outcome.writes, outcome.crashes, outcome.took, outcome.calls, outcome.said()]

    assert told() == told()


def test_seeds_differ() -> None:
    def told(seed: int) -> tuple[Any, ...]:
        reset()
        outcome = testing.run(flows.order, "tea", answers={"approve": True}, seed=seed)
        return outcome.attempts, outcome.crashes, outcome.writes

    assert len({told(seed) for seed in range(10)}) > 1


def test_a_wrong_call_says_which_run_it_was() -> None:
    with pytest.raises(KitaruUsageError, match="nobody answers"):
        testing.explore(flows.asks_twice)
    with pytest.raises(KitaruUsageError, match="there is an answer to aprove"):
        testing.explore(flows.order, "tea", answers={"aprove": 1}, seeds=range(2))
    with pytest.raises(KitaruUsageError, match="seeds=20 are no seeds"):
        testing.explore(flows.order, "tea", seeds=20)  # type: ignore[arg-type]
