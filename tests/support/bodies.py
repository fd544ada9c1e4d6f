"""Random programs as flows: each step by Kitaru's own names. What every line of execution sees is noted."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections import Counter
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from programs import (
    Boom,
    Call,
    Child,
    Choose,
    Fan,
    InTime,
    Keep,
    Loop,
    Note,
    Place,
    Pool,
    Program,
    Rest,
    Sleep,
    Step,
    Tasks,
    Thread,
    Threads,
    Wait,
    WaitAny,
    Walk,
    mix,
)

import kitaru
from kitaru.checkpoints import Checkpoint, spec_of
from kitaru.flows import Flow
from kitaru_registry.errors import KitaruNotFinishedError
from kitaru_runner.engine.core.calls import current, this_branch

RUNNING = ("running",)
"""What is known of a child that has not ended."""

LATE = ("late",)
"""What becomes of a call that takes longer than its own timeout."""

DOWN = "down"
"""What a call that an outage of the world meets fails with, and its number."""

CHANGED = ("changed",)
"""What becomes of a call that changes one of its arguments."""


@dataclass
class Seen:
    """What one attempt of a program saw and did."""

    executed: Counter[tuple[str, int]] = field(default_factory=Counter)
    """How often the body of a checkpoint ran: by key and number of the try."""
    given: dict[tuple[str, int], int] = field(default_factory=dict)
    """For which value it ran last."""
    races: dict[str, Any] = field(default_factory=dict)
    """Who was first, by the place of the race."""
    trace: dict[str, Any] = field(default_factory=dict)
    """What was seen, by place."""

    def note(self, of: dict[str, Any], place: str, value: object) -> None:
        """Note what a line of execution saw; not one of a process that has ended, whose code unwinds."""
        branch = current.get()
        assert branch is not None
        if not branch.attempt.pace.ended:  # type: ignore[attr-defined]  # a Schedule
            of[place] = value


class Body(Walk):
    """A program's flow, or a child's. `seen` is put in its place anew for each attempt.

    Args:
        is_down: whether a checkpoint's body that ends now meets an outage of the world.
    """

    def __init__(self, program: Program | Child, is_down: Callable[[], bool] = lambda: False) -> None:
        self.program = program
        self.is_down = is_down
        self.seen = Seen()
        self._checkpoints: dict[int, Any] = {}

    def flow(self) -> Any:
        if not self.program.is_async:

            def body(number: int, so_far: int) -> Any:
                return run_plain(self.block(Place("", so_far), self.program.steps))

            return body

        async def async_body(number: int, so_far: int) -> Any:
            return await self.block(Place("", so_far), self.program.steps)

        return async_body

    async def step(self, place: Place, step: Step) -> None:
        before = place.so_far
        await super().step(place, step)
        # A place may be passed again, by another try.
        self.seen.note(self.seen.trace, f"{place.path}/{step.number}/{before}", place.so_far)

    # Checkpoints

    def checkpoint(self, step: Call) -> Any:
        made = self._checkpoints.get(step.number)
        if made is None:
            made = self._checkpoints[step.number] = self._make(step)
        return made

    def _make(self, step: Call) -> Any:
        if step.is_async:

            async def work(so_far: int, changed: list[int] | None = None) -> int:
                tried = self._begin_try(so_far)
                await asyncio.sleep(step.takes_seconds)
                return self._execute(step, so_far, tried, changed)
        else:

            def work(so_far: int, changed: list[int] | None = None) -> int:  # type: ignore[misc]  # either
                tried = self._begin_try(so_far)
                branch = current.get()
                if step.takes_seconds and branch is not None:
                    # Sleeps, by the clock of the test.
                    branch.attempt.pace.pause(step.takes_seconds, threading.Event())
                return self._execute(step, so_far, tried, changed)

        work.__name__ = step.name
        options: dict[str, Any] = {"retries": step.retries, "backoff": step.backoff_seconds}
        if step.timeout_seconds is not None:
            options["timeout"] = step.timeout_seconds
        return Checkpoint(work, spec_of(work, **options))

    def _begin_try(self, so_far: int) -> int:
        """Count this execution of a checkpoint's body; the number of the try."""
        branch = current.get()
        assert branch is not None
        assert branch.call is not None
        tried = int(branch.scope.rstrip("/").rpartition("/try")[2])
        self.seen.executed[branch.call.key, tried] += 1
        self.seen.given[branch.call.key, tried] = so_far
        return tried

    def _execute(self, step: Call, so_far: int, tried: int, changed: list[int] | None) -> int:
        if changed is not None:
            changed.append(tried)
        branch = current.get()
        assert branch is not None
        place = Place(branch.scope, so_far)
        inner = run_plain(self.block(place, step.inner)) if step.inner else 0
        if self.is_down():
            raise Boom(DOWN, step.number)
        if tried <= step.fails:
            raise Boom("try", step.number, tried)
        return mix(step.number, so_far, inner)

    async def call(self, place: Place, step: Call) -> object:
        try:
            value = self.checkpoint(step)(place.so_far, *([[]] if step.changes else []))
            return await value if step.is_async else value
        except kitaru.KitaruTimeoutError:
            raise Boom(*LATE) from None
        except kitaru.KitaruChangedArgumentError as error:
            self.seen.note(self.seen.trace, f"{place.path}/{step.number}/{place.so_far}/error", str(error))
            raise Boom(*CHANGED) from None

    # Side by side

    async def fan(self, place: Place, step: Fan) -> object:
        futures = self._begin(place, step)
        await self.block(place, step.meanwhile)
        if step.join == "never":
            return None
        if step.join == "all":
            return [await self._outcome(future) for future in futures]
        index = {id(future): number for number, future in enumerate(futures)}
        order: list[int] = []
        found: list[object] = []
        if on_loop():
            for first in asyncio.as_completed([self._numbered(n, f) for n, f in enumerate(futures)]):
                number, outcome = await first
                order.append(number)
                found.append(outcome)
        elif step.join == "as_completed":
            for future in concurrent.futures.as_completed(futures):
                order.append(index[id(future)])
                found.append(await self._outcome(future))
        else:
            left = set(futures)
            while left:
                done, left = concurrent.futures.wait(left, return_when=concurrent.futures.FIRST_COMPLETED)
                for future in done:
                    order.append(index[id(future)])
                    found.append(await self._outcome(future))
        self.seen.note(self.seen.races, f"{place.path}/{step.number}", order)
        return found

    async def _numbered(self, number: int, future: Any) -> tuple[int, object]:
        return number, await self._outcome(future)

    def _begin(self, place: Place, step: Fan) -> list[Any]:
        if step.how == "map":
            values = [mix(place.so_far, number) for number in range(len(step.calls))]
            return list(self.checkpoint(step.calls[0]).map(values, max_concurrency=step.limit))
        futures: list[Any] = []
        for number, call in enumerate(step.calls):
            given: object = mix(place.so_far, number)
            if step.chained and futures:
                futures.append(self.checkpoint(call).submit(given, after=futures[-1]))
            else:
                futures.append(self.checkpoint(call).submit(given))
        return futures

    async def _outcome(self, future: Any) -> object:
        try:
            return await future if on_loop() else future.result()
        except Boom as error:
            return error.args
        except kitaru.KitaruTimeoutError:
            return LATE

    async def tasks(self, place: Place, step: Tasks) -> object:
        limit = asyncio.Semaphore(step.limit or len(step.blocks))

        async def one(number: int) -> int:
            async with limit:
                return await self.block(
                    Place(f"{place.path}/{step.number}[{number}]", place.so_far), step.blocks[number]
                )

        if step.how == "gather":
            found = await asyncio.gather(*(one(number) for number in range(len(step.blocks))), return_exceptions=True)
            return [outcome_of(value) for value in found]
        if step.how == "group":
            failed: list[Any] = []
            try:
                async with asyncio.TaskGroup() as group:
                    made = [group.create_task(one(number)) for number in range(len(step.blocks))]
            except* Boom as errors:
                failed = [error.args for error in errors.exceptions]
                self.seen.note(self.seen.races, f"{place.path}/{step.number}", failed)
            return failed or [task.result() for task in made]
        if step.how == "as_completed":
            return await self._as_completed(place, step, one)
        return await self._first(place, step, [asyncio.create_task(one(n)) for n in range(len(step.blocks))])

    async def _first(self, place: Place, step: Tasks, tasks: list[Any]) -> object:
        """The first that ends; the others are cancelled in a race, else awaited in the order of their ends."""
        index = {task: number for number, task in enumerate(tasks)}
        left = set(tasks)
        order = []
        found = []
        while left and (step.how == "first" or not order):
            done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                order.append(index[task])
                found.append(outcome_of(task.exception() or task.result()))
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        self.seen.note(self.seen.races, f"{place.path}/{step.number}", order)
        return found

    async def _as_completed(self, place: Place, step: Tasks, one: Any) -> object:
        order: list[int] = []
        found = []

        async def numbered(number: int) -> tuple[int, object]:
            try:
                return number, await one(number)
            except Boom as error:
                return number, error.args

        for first in asyncio.as_completed([numbered(number) for number in range(len(step.blocks))]):
            number, outcome = await first
            order.append(number)
            found.append(outcome)
        self.seen.note(self.seen.races, f"{place.path}/{step.number}", order)
        return found

    async def pool(self, place: Place, step: Pool) -> object:
        queue: asyncio.Queue[int] = asyncio.Queue()
        for number in range(len(step.blocks)):
            queue.put_nowait(number)
        found: dict[int, object] = {}

        async def work(worker: int) -> None:
            taken = 0
            while not queue.empty():
                number, taken = queue.get_nowait(), taken + 1
                inside = f"{place.path}/{step.number}[{number}]"
                self.seen.note(self.seen.races, inside, (worker, taken))
                try:
                    found[number] = await self.block(Place(inside, place.so_far), step.blocks[number])
                except Boom as error:
                    found[number] = error.args

        await asyncio.gather(*(work(worker) for worker in range(step.workers)))
        return [found[number] for number in range(len(step.blocks))]

    async def rest(self, place: Place, step: Rest) -> None:
        await asyncio.sleep(step.seconds)

    async def thread(self, place: Place, step: Thread) -> object:
        def block() -> int:
            return run_plain(self.block(Place(f"{place.path}/{step.number}", place.so_far), step.block))  # type: ignore[no-any-return]

        return await asyncio.to_thread(block)

    async def threads(self, place: Place, step: Threads) -> object:
        def line(number: int) -> object:
            inside = Place(f"{place.path}/{step.number}[{number}]", place.so_far)
            try:
                return run_plain(self.block(inside, step.blocks[number]))
            except Boom as error:
                if step.raises and step.how == "pool":
                    raise
                return error

        found = in_threads(line, step)
        if step.raises:
            for value in found:
                if isinstance(value, Boom):
                    raise value
        return [outcome_of(value) for value in found]

    async def loop(self, place: Place, step: Loop) -> object:
        main = self.block(Place(f"{place.path}/{step.number}", place.so_far), step.block)
        if step.how == "run":
            return asyncio.run(main)
        with asyncio.Runner() as runner:
            return runner.run(main)

    # Child flows

    async def child(self, place: Place, step: Child) -> object:
        body = Body(step).flow()
        body.__name__ = step.name
        start = getattr(Flow(body), step.how)
        handle = start(number=step.number, so_far=place.so_far)
        if step.take == "never":
            return None
        found: list[object] = []
        if step.take == "at_once":
            found.append(self._or_running(handle.get))
        await self.block(place, step.meanwhile)
        try:
            found.append(await self._stood(handle.wait(timeout=step.timeout_seconds)))
        except KitaruNotFinishedError:
            return RUNNING
        except kitaru.KitaruUserCodeError as error:
            raise Boom(*cause_of(error)) from error
        if step.take == "get":
            found += [handle.get(), handle.status, await self._stood(handle.wait())]
        return found

    def _or_running(self, get: Any) -> object:
        try:
            return get()
        except KitaruNotFinishedError:
            return RUNNING
        except kitaru.KitaruUserCodeError as error:
            return cause_of(error)

    async def intime(self, place: Place, step: InTime) -> object:
        try:
            call = asyncio.create_task(self._awaited(self.checkpoint(step.call), place.so_far))
            value = await asyncio.wait_for(call, step.timeout_seconds)
        except TimeoutError:
            value = "late"
        self.seen.note(self.seen.races, f"{place.path}/{step.number}", value == "late")
        return value

    async def _awaited(self, checkpoint: Any, so_far: int) -> object:
        return await checkpoint(so_far)

    # In the flow's body

    async def note(self, place: Place, step: Note) -> object:
        return str(getattr(kitaru, step.what)())

    async def sleep(self, place: Place, step: Sleep) -> object:
        return await self._stood(kitaru.sleep(step.seconds))

    async def wait(self, place: Place, step: Wait) -> object:
        options: dict[str, Any] = {"default": "default"} if step.has_default else {}
        try:
            return await self._stood(kitaru.wait(name=step.name, schema=str, timeout=step.timeout_seconds, **options))
        except kitaru.KitaruWaitTimeout:
            return "expired"
        except kitaru.KitaruWaitAborted:
            return "aborted"

    async def waitany(self, place: Place, step: WaitAny) -> object:
        questions = [{"name": name, "schema": str} for name in step.names]
        try:
            found = await self._stood(kitaru.wait_any(*questions, timeout=step.timeout_seconds, default=None))
        except kitaru.KitaruWaitAborted:
            return "aborted"
        return found and tuple(found)

    async def _stood(self, outcome: Any) -> Any:
        return await outcome if on_loop() else outcome

    async def keep(self, place: Place, step: Keep) -> object:
        if step.what == "save":
            kitaru.save(f"kept{step.number}", place.so_far)
        else:
            kitaru.log(**{f"kept{step.number}": place.so_far})
        return None

    async def choose(self, place: Place, step: Choose) -> object:
        raise AssertionError("walked by Walk")


def on_loop() -> bool:
    """Whether the flow's code, not a checkpoint's, goes on in a task."""
    branch = this_branch()
    assert branch is not None
    return branch.call is None and asyncio._get_running_loop() is not None


def cause_of(error: BaseException) -> tuple[object, ...]:
    """Of a child's failure: the planned one."""
    cause = error.__cause__
    assert isinstance(cause, Boom), error
    return cause.args


def outcome_of(value: object) -> object:
    if isinstance(value, Boom):
        return value.args
    if isinstance(value, BaseException):
        raise value
    return value


def in_threads(line: Callable[[int], object], step: Threads) -> list[object]:
    """What it comes to for each block, in their order."""
    numbers = range(len(step.blocks))
    lines = [partial(copy_context().run, line, n) if step.copies_context else partial(line, n) for n in numbers]
    if step.how == "threads":
        return in_a_thread_each(lines)
    with concurrent.futures.ThreadPoolExecutor(step.limit) as pool:
        if step.how == "map":
            return list(pool.map(line, numbers))
        return [future.result() for future in [pool.submit(each) for each in lines]]


def in_a_thread_each(lines: list[Callable[[], object]]) -> list[object]:
    found: dict[int, object] = {}

    def keep(number: int) -> None:
        found[number] = lines[number]()

    threads = [threading.Thread(target=keep, args=(number,)) for number in range(len(lines))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[number] for number in range(len(lines))]


def run_plain(walk: Any) -> Any:
    """The value of a walk that awaits nothing."""
    try:
        walk.send(None)
    except StopIteration as ended:
        return ended.value
    raise AssertionError("a synchronous program awaited something")
