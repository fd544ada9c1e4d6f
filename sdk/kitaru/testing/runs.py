"""`run`: one execution of a flow, from beginning to end, as a test wants it."""

from __future__ import annotations

import sysconfig
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kitaru.client import KitaruClient
from kitaru.flow_options import FlowOptions, take_options
from kitaru.flows import Flow
from kitaru.source_children import source_execution
from kitaru.testing.answering import Answers, Given
from kitaru.testing.clocks import Clock, clock_in_use
from kitaru.testing.crashes import Crash
from kitaru.testing.crashes import crash_at as at_write
from kitaru.testing.flows import Family, FlowSimulation, in_thread, simulation_of
from kitaru.testing.homes import home_in_use
from kitaru.testing.outcomes import Outcome, read_outcome
from kitaru.testing.own_threads import turns
from kitaru.testing.schedules import Schedule, Stuck
from kitaru_registry.errors import KitaruContextError, KitaruStateError, KitaruTimeoutError, KitaruUsageError
from kitaru_registry.executions import creating, waits
from kitaru_runner.engine.core.blocking import frames_of_threads
from kitaru_runner.engine.core.calls import current
from kitaru_runner.values import codec
from kitaru_runner.values.failures import is_ours

PATIENCE_SECONDS = 60.0
CACHE_OF_HOME = "kitaru.testing"
STANDARD_LIBRARY = sysconfig.get_paths()["stdlib"]

CrashAt = int | Crash | Sequence[int | Crash | None] | None


def run(
    flow: Flow[..., Any], *args: Any, answers: Answers | None = None, crash_at: CrashAt = None,
    seed: int | None = None, patience_seconds: float = PATIENCE_SECONDS, **kwargs: Any,
) -> Outcome:  # fmt: skip
    """Run a flow to its end, and say what it did. Nothing is waited for: time passes when all else stands still.

        outcome = testing.run(order, "tea", answers={"approve": True}, crash_at=2)

    Further arguments are the flow's; one of its parameters that has the name of an option here is given by position.
    It uses the `home()` and the `Clock` that are in use, or else has its own, which are gone at the end.

    Args:
        answers: to each wait, by its name or its key; or a function of what is asked, which returns the answer. An
            answer that is here comes in time. A wait without one expires, if it can.
        crash_at: the write at which the first attempt's process ends, or `crash_at(n, after=True)`; a list goes on
            with the second attempt's, where None is no crash.
        seed: the order of threads and tasks, the times of answers and, without `crash_at`, up to two crashes follow
            from it; the same seed does the same again. None: one thread after another, and no crash.
        patience_seconds: of the machine's time.

    Raises:
        KitaruUsageError: what is given is not a flow, or does not fit it; a wait has no answer and does not expire; an
            answer is to something that was not asked, a crash at a write that was not reached.
        KitaruWaitValidationError: an answer does not fit what is asked.
        KitaruContextError: inside a flow.
        KitaruTimeoutError: it has not ended in `patience_seconds`.
    """
    planned = crashes_of(crash_at)
    trial = Trial.of(flow, args, kwargs, answers, patience_seconds)
    outcome = trial.run(planned, seed=seed)
    if outcome.status == "completed":
        trial.given.check_all_asked()
    return outcome


def crashes_of(given: CrashAt) -> tuple[Crash | None, ...]:
    if given is None:
        return ()
    several = given if isinstance(given, Sequence) else (given,)
    return tuple(crash if crash is None or isinstance(crash, Crash) else at_write(crash) for crash in several)


@dataclass(frozen=True)
class Trial:
    """A call of a flow, to be executed again and again."""

    flow: Flow[..., Any]
    inputs: Mapping[str, Any]
    options: FlowOptions
    given: Given
    patience_seconds: float
    shown: str
    """The arguments of `run`, as they would be written."""

    @classmethod
    def of(
        cls, flow: Flow[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], answers: Answers | None,
        patience_seconds: float,
    ) -> Trial:  # fmt: skip
        """
        Raises:
            KitaruUsageError, KitaruContextError: it cannot be called like that.
        """
        if not isinstance(flow, Flow):
            name = getattr(flow, "__name__", repr(flow))
            raise KitaruUsageError(f"{name} is not a flow", hint="give the function itself, decorated with @flow")
        if current.get() is not None:
            raise KitaruContextError(
                f"{flow.name} is tested inside a flow", hint=f"a child execution is {flow.name}.run(...)"
            )
        shown = [flow.name, *map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())]
        if answers is not None:
            shown.append(f"answers={answers!r}")
        options = take_options(flow.options, kwargs)
        inputs = flow.bind(*args, **kwargs)
        return cls(flow, inputs, options, Given(answers or {}), patience_seconds, ", ".join(shown))

    def call(self, *, seed: int | None = None, crash: Crash | Sequence[Crash | None] | None = None) -> str:
        """The line that does it again."""
        more = "" if seed is None else f", seed={seed}"
        if isinstance(crash, Crash):
            more += f", crash_at={crash}"
        elif crash is not None:
            more += f", crash_at=[{', '.join(str(each) for each in crash)}]"
        return f"testing.run({self.shown}{more})"

    def run(
        self, planned: Sequence[Crash | None] = (), *, seed: int | None = None, shares_cache: bool = True
    ) -> Outcome:
        """
        Raises:
            KitaruUsageError: a wait has no answer, or a planned crash was not reached.
        """
        with home_in_use() as client, clock_in_use() as clock:
            execution = self._create(client, clock, seed, shares_cache=shares_cache)
            if seed is not None and not any(planned):
                execution.crashes = execution.random.choice((0, 1, 1, 2))
                execution.longest = execution.random.choice((3, 8, 20))
            execution.planned = planned
            began = clock.now
            self._finish(execution)
            outcome = read_outcome(
                client.database, execution.exec_id, calls=execution.family.calls,
                crashes=sum(attempt.crashed for attempt in execution.attempts),
                writes=tuple(attempt.writes for attempt in execution.attempts), took=clock.now - began,
            )  # fmt: skip
        if outcome.status == "completed":
            self._check_reached(execution, planned)
        return outcome

    def _create(self, client: KitaruClient, clock: Clock, seed: int | None, *, shares_cache: bool) -> FlowSimulation:
        encoded = codec.encode(dict(self.inputs))
        new = source_execution(client, flow=self.flow.name, inputs=encoded, source=None, options=self.options.said)
        creating.create(client.database, new)
        code = CACHE_OF_HOME if shares_cache else new.exec_id
        return simulation_of(Family(client, clock, self.given, seed, code), self.flow, new.exec_id)

    def _finish(self, execution: FlowSimulation) -> None:
        name = f"kitaru-test-{self.flow.name}"
        try:
            in_thread(execution.finish, name=name, seconds=self.patience_seconds)
        except TimeoutError:
            raise KitaruTimeoutError(
                f"{self.flow.name} has not ended in {self.patience_seconds:g} s; it blocks at {blocked_at()}",
                hint="let it wait by wait() or sleep(), for which no time passes; or give patience_seconds=...",
            ) from None
        except Stuck as stuck:
            raise self._unanswered(execution, stuck) from None

    def _unanswered(self, execution: FlowSimulation, stuck: Stuck) -> KitaruUsageError | KitaruStateError:
        for member in execution.family.members.values():
            for wait in waits.list_waits(member.database, exec_id=member.exec_id):
                self.given.check_all_asked()
                return KitaruUsageError(
                    f"nobody answers the wait {wait.key} of {wait.flow}, and it does not expire",
                    hint=f'give an answer: testing.run({self.flow.name}, ..., answers={{"{wait.key}": ...}})',
                )
        return KitaruStateError(
            f"{self.flow.name} cannot go on: {stuck}",
            hint="they wait for one another, and for no answer and no time that could come",
        )

    def _check_reached(self, execution: FlowSimulation, planned: Sequence[Crash | None]) -> None:
        for number, crash in enumerate(planned):
            done = execution.attempts[number] if number < len(execution.attempts) else None
            if crash is not None and (done is None or not done.crashed):
                made = "was not needed" if done is None else f"made {done.writes} writes"
                raise KitaruUsageError(
                    f"{crash} was not reached: attempt {number + 1} of {self.flow.name} {made}",
                    hint="crash_everywhere() crashes at each write that there is",
                )


def blocked_at() -> str:
    """The line of the user's code at which a flow's thread blocks that is not waiting for its turn."""
    frames = frames_of_threads()
    for thread in threading.enumerate():
        stack = list(traceback.walk_stack(frames.get(thread.ident or 0)))
        is_flows = thread.name.startswith("kitaru") or thread.ident in turns
        if not is_flows or any(frame.f_code is Schedule._stand.__code__ for frame, _ in stack):
            continue
        for frame, line in stack:
            if not is_ours(frame) and not frame.f_code.co_filename.startswith(STANDARD_LIBRARY):
                return f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_name}"
    return "an unknown place"
