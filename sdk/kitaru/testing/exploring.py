"""`crash_everywhere` and `explore`: the same flow again and again, with a crash at each write, and in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from kitaru.flows import Flow
from kitaru.testing.answering import Answers
from kitaru.testing.crashes import Crash
from kitaru.testing.homes import home_in_use
from kitaru.testing.outcomes import Outcome
from kitaru.testing.runs import PATIENCE_SECONDS, Trial
from kitaru_registry.errors import KitaruDivergenceError, KitaruUsageError

Check = Callable[[Outcome], object]
Reset = Callable[[], object]


class ExplorationFailed(AssertionError):
    """A flow did something else in one order, or after one crash.

    `call` is the line that does it again; `outcome` is how it ended, `undisturbed` how it ends without any of that.
    """

    def __init__(self, message: str, *, call: str, outcome: Outcome, undisturbed: Outcome) -> None:
        super().__init__(f"{message}\nagain: {call}")
        self.call = call
        self.outcome = outcome
        self.undisturbed = undisturbed


def explore(
    flow: Flow[..., Any], *args: Any, seeds: Iterable[int] = range(100), check: Check | None = None,
    reset: Reset | None = None, answers: Answers | None = None, patience_seconds: float = PATIENCE_SECONDS,
    **kwargs: Any,
) -> int:  # fmt: skip
    """Run a flow once for each seed, in the order and with the crashes that follow from it; how many runs there were.

    A flow whose replay diverges, or gives a checkpoint other arguments, fails always.

    Args:
        seeds: see `run`.
        check: called with each outcome; it raises what is wrong. None: each must end as without crashes.
        reset: called before each run. What the flow changes outside is to be then as at first.
        answers, patience_seconds, args, kwargs: as of `run`.

    Raises:
        ExplorationFailed: names the seed, and the call that does the same again.
        KitaruError: as `run`.
    """
    if not isinstance(seeds, Iterable):
        raise KitaruUsageError(f"seeds={seeds!r} are no seeds", hint=f"write seeds=range({seeds})")
    trial = Trial.of(flow, args, kwargs, answers, patience_seconds)
    with home_in_use():
        undisturbed = first(trial, check, reset)
        count = 1
        for seed in seeds:
            reset_if(reset)
            again = trial.call(seed=seed)
            verify(again_or_note(trial, again, seed=seed), undisturbed, check, again, f"seed {seed}")
            count += 1
    trial.given.check_all_asked()
    return count


def crash_everywhere(
    flow: Flow[..., Any], *args: Any, check: Check | None = None, reset: Reset | None = None,
    answers: Answers | None = None, patience_seconds: float = PATIENCE_SECONDS, **kwargs: Any,
) -> int:  # fmt: skip
    """Run a flow once without a crash, then with one before and one after each of its writes; how many runs there were.

    Args, errors: as of `explore`.
    """
    trial = Trial.of(flow, args, kwargs, answers, patience_seconds)
    with home_in_use():
        undisturbed = first(trial, check, reset)
        count = 1
        for planned in everywhere(undisturbed.writes):
            reset_if(reset)
            again = trial.call(crash=planned if len(planned) > 1 else planned[0])
            outcome = again_or_note(trial, again, planned=planned)
            verify(outcome, undisturbed, check, again, where(planned, undisturbed))
            count += 1
    trial.given.check_all_asked()
    return count


def everywhere(writes: Sequence[int]) -> Iterator[tuple[Crash | None, ...]]:
    """Each write of each attempt, lost and kept. An execution whose end is kept has no more attempt to make."""
    for number, count in enumerate(writes):
        for write in range(1, count + 1):
            for after in (False, True):
                yield (*[None] * number, Crash(write, after))


def where(planned: Sequence[Crash | None], undisturbed: Outcome) -> str:
    crash = planned[-1]
    assert crash is not None
    entries = [entry for entry in undisturbed.journal if entry.attempt == len(planned)]
    written = (
        f"{entries[crash.write - 1].kind} {entries[crash.write - 1].key}" if crash.write <= len(entries) else "end"
    )
    attempt = f" of attempt {len(planned)}" if len(planned) > 1 else ""
    return f"crash {'after' if crash.after else 'before'} write {crash.write}{attempt} ({written})"


def first(trial: Trial, check: Check | None, reset: Reset | None) -> Outcome:
    reset_if(reset)
    call = trial.call()
    outcome = trial.run(shares_cache=False)
    verify(outcome, outcome, check, call, "without a crash")
    return outcome


def again_or_note(trial: Trial, call: str, *, seed: int | None = None, planned: Sequence[Crash | None] = ()) -> Outcome:
    try:
        return trial.run(planned, seed=seed, shares_cache=False)
    except Exception as error:
        error.add_note(f"again: {call}")
        raise


def verify(outcome: Outcome, undisturbed: Outcome, check: Check | None, call: str, which: str) -> None:
    """
    Raises:
        ExplorationFailed: it is not as it should be.
    """
    wrong = fault(outcome, None if check else undisturbed)
    cause: BaseException | None = None
    if wrong is None and check is not None:
        try:
            check(outcome)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # what pytest.fail() raises is no Exception
            wrong, cause = f"{type(error).__name__}: {error}", error
    if wrong is not None:
        raise ExplorationFailed(f"{which}: {wrong}", call=call, outcome=outcome, undisturbed=undisturbed) from cause


def fault(outcome: Outcome, expected: Outcome | None) -> str | None:
    if outcome.warnings:
        return f"{outcome.flow} is not the same in every attempt: {outcome.warnings[0]}"
    if isinstance(outcome.error, KitaruDivergenceError):
        return f"{outcome.flow} is not the same in every attempt: {outcome.error}"
    if expected is not None and not outcome.ended_as(expected):
        return f"{outcome.flow} {outcome.said()}; without crashes it {expected.said()}"
    return None


def reset_if(reset: Reset | None) -> None:
    if reset is not None:
        reset()
