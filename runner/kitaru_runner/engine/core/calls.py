"""Where code runs: the current branch of an execution, and the keys that it gives out.

A checkpoint's identity is a path of scopes. Each asyncio task, each thread and each call that a pool is given, each
`.submit` or `.map` element and each try of a checkpoint opens a scope, numbered by creation in its parent; a name and
its ordinal count within the scope. So the keys depend on the flow's own structure, not on which branch was faster.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

from kitaru_registry.errors import KitaruContextError, KitaruTimeoutError, KitaruUsageError
from kitaru_registry.journal.json_text import compact
from kitaru_registry.journal.keys import Call
from kitaru_registry.journal.metadata import merge_metadata
from kitaru_runner.values.surroundings import here

if TYPE_CHECKING:
    import asyncio

    from kitaru_registry.journal.entries import Saved
    from kitaru_runner.engine.core.attempt import Attempt
    from kitaru_runner.engine.core.matching import Family

MOST_LOGGED_BYTES = 4 << 20
"""Of metadata as JSON, by one try of a checkpoint: it goes with the outcome, wherever that is read."""

_logging = threading.Lock()
"""The threads of a try log one after another; a lock for each try would cost all of them."""

current = cast("ContextVar[Branch | None]", here)
"""The branch as the context has it. A thread may run in a copy of another's context: `this_branch` knows better."""

THREADS = "threads/"
"""The scope, in that of a branch, of the threads that call in it and whose creation nobody saw."""


making = threading.RLock()
"""Held while a branch gets its `Left`."""


class Left:
    """What a try of a checkpoint leaves behind beside its value; in all of its tasks and threads."""

    __slots__ = ("_logged_bytes", "loaded", "metadata", "saved")

    def __init__(self) -> None:
        self.saved: list[Saved] = []
        self.metadata: dict[str, Any] = {}
        self._logged_bytes = 0
        self.loaded: list[str] = []
        """Ids of artifacts of other executions."""

    def log(self, metadata: Mapping[str, Any]) -> None:
        """
        Raises:
            KitaruUsageError: it was logged too much.
        """
        size = len(compact(metadata))
        with _logging:
            if self._logged_bytes + size > MOST_LOGGED_BYTES:
                raise KitaruUsageError(
                    f"more than {MOST_LOGGED_BYTES:,} bytes were logged in one try of a checkpoint",
                    hint="keep what is large as a value: return it, or kitaru.save(name, value)",
                )
            self._logged_bytes += size
            self.metadata = merge_metadata(self.metadata, metadata)


class Span:
    """The time of a try. What a thread does that was left behind when it was over is not recorded."""

    __slots__ = ("_outer", "_over")

    def __init__(self, outer: Span | None) -> None:
        self._outer = outer
        self._over = False

    def end(self) -> None:
        self._over = True

    @property
    def is_over(self) -> bool:
        return self._over or (self._outer is not None and self._outer.is_over)


class Branch:
    """One line of execution, in which calls come one after another."""

    __slots__ = (
        "_ordinals", "_places", "_unordered", "attempt", "call", "creator", "family", "home", "left_behind", "scope",
        "span", "task",
    )  # fmt: skip

    def __init__(
        self, attempt: Attempt, scope: str = "", call: Call | None = None, span: Span | None = None
    ) -> None:  # fmt: skip
        self.attempt = attempt
        self.scope = scope
        self.call = call
        """The checkpoint that this branch executes; None in the flow's body."""
        self.span = span
        """Of the innermost try that has a timeout."""
        self.task: asyncio.Task[Any] | None = None
        self.home: int | None = None
        """The thread that runs it, once that is known. Another one that calls has a scope of its own."""
        self.family: Family | None = None
        """Of a thread's scope: says which record is a call's, where that need not follow from its place."""
        self.creator: Branch | None = None
        """Of a thread's scope: the branch that has begun it."""
        self._unordered: Branch | None = None
        self.left_behind: Left | None = None
        """Made when something is: most tries leave nothing but their value."""
        self._ordinals: dict[str, int] = {}
        self._places = 0

    def place(self, name: str, id_: str | None = None, what: str = "") -> Call:
        """The key of the next call here, after checking that the journal agrees.

        Args:
            what: is called, before its name: `checkpoint`. For errors.

        Raises:
            KitaruDivergenceError: the journal holds another call at this place; the execution has failed.
        """
        attempt = self.attempt
        attempt.admit(name, what)
        if self.span is not None:
            self.check_time()
        call = self._next_call(name, id_)
        if self.family is not None:
            attempt.parking.count(threading.get_ident())
        if attempt.recorded.has_places:
            attempt.check_place(call)
        return call

    def check_time(self) -> None:
        """Raise where the code that calls was left behind by a timeout: nothing of it is recorded."""
        if self.call is not None and self.is_over:
            raise KitaruTimeoutError(f"the time of checkpoint {self.call.key} is over")

    def _next_call(self, name: str, id_: str | None) -> Call:
        if self.family is not None and not self.has_order:
            return (
                self.call_without_place(name)
                if id_ is None
                else Call(self.scope + self._taken(id_), name, self.scope, -1)
            )
        place, self._places = self._places, self._places + 1
        return Call(self.scope + (self._taken(id_) if id_ else self._numbered(name)), name, self.scope, place)

    def open(self, kind: str) -> Branch:
        """A scope of its own, numbered by creation: `submit[0]/`, `task[1]/`.

        Raises:
            KitaruContextError: this is the scope of threads that have no order, so there is none to number by.
        """
        if self.is_unordered:
            raise without_order(f"{kind}s cannot be numbered")
        number = self._ordinals[f"[{kind}"] = self._ordinals.get(f"[{kind}", -1) + 1
        return self._inner(f"{self.scope}{kind}[{number}]/")

    def open_thread(self, name: str) -> Branch:
        """The scope of a thread, or of a call that a pool was given, for a function of that name."""
        scope = self.open(f"thread:{name}")
        scope.family = self.attempt.families.of(f"{self.scope}thread:{name}[")
        scope.creator = self
        return scope

    def open_map(self, count: int) -> list[Branch]:
        """A scope for each element: `map[0]/`, and `map#2[0]/` of a second map in the same scope."""
        if self.is_unordered:
            raise without_order("elements of .map cannot be numbered")
        name = self._numbered("map")
        return [self._inner(f"{self.scope}{name}[{index}]/") for index in range(count)]

    def open_try(self, call: Call, number: int) -> Branch:
        return Branch(self.attempt, f"{call.key}/try{number}/", call, self.span)

    @property
    def may_pickle(self) -> bool:
        return self.attempt.opening.may_pickle

    @property
    def has_order(self) -> bool:
        """Whether what comes first here is first in every attempt."""
        return self.family is None or self.family.has_order(self)

    @property
    def is_unordered(self) -> bool:
        return self.scope.endswith(THREADS)

    def unordered(self) -> Branch:
        """The one scope of all threads that call here and whose creation nobody saw."""
        if self._unordered is None:
            with making:
                if self._unordered is None:
                    unordered = self._inner(f"{self.scope}{THREADS}")
                    unordered.family = self.attempt.families.of(unordered.scope, unseen=True)
                    self._unordered = unordered
        return self._unordered

    @property
    def left(self) -> Left:
        """What is left behind here, to add to it."""
        if self.left_behind is None:
            # Two threads may be in one branch, as with `asyncio.to_thread`.
            with making:
                self.left_behind = self.left_behind or Left()
        return self.left_behind

    @property
    def is_over(self) -> bool:
        """Whether nothing that happens here counts any more."""
        return self.span is not None and self.span.is_over

    def _taken(self, id_: str) -> str:
        """An id, which names one call of its scope.

        Raises:
            KitaruUsageError: it has named another.
        """
        if id_ in self._ordinals:
            where = f" in {self.scope.rstrip('/')}" if self.scope else ""
            raise KitaruUsageError(
                f"{id_} names another call{where} already, so id={id_!r} cannot name this one",
                hint="give each call an id of its own, or none: calls are numbered then",
            )
        self._ordinals[id_] = 1
        return id_

    def call_without_place(self, name: str) -> Call:
        """A call that may be made or not: the places of the others do not depend on it."""
        return Call(self.scope + self._numbered(name), name, self.scope, -1)

    def _inner(self, scope: str) -> Branch:
        """A scope within this one: of the same checkpoint, if this is one's."""
        inner = Branch(self.attempt, scope, call=self.call, span=self.span)
        inner.left_behind = self.left
        return inner

    def _numbered(self, name: str) -> str:
        ordinal = self._ordinals[name] = self._ordinals.get(name, 0) + 1
        return name if ordinal == 1 else f"{name}#{ordinal}"


class ActiveAttempts:
    """The attempts of this process, to tell a plain call from one in a thread that lost its context."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._plain_threads = {threading.main_thread().ident}

    def enter(self, *, caller_is_plain: bool) -> None:
        with self._lock:
            self._count += 1
            if caller_is_plain:
                self._plain_threads.add(threading.get_ident())

    def leave(self) -> None:
        with self._lock:
            self._count -= 1

    def lost_context(self) -> bool:
        return self._count > 0 and threading.get_ident() not in self._plain_threads


active = ActiveAttempts()


scopes: dict[int, Branch] = {}
"""By thread, the scope that was opened for what it runs now (creation.py)."""


def this_branch() -> Branch | None:
    """The branch that calls; None where the context has none, and no scope was opened for this thread."""
    branch = current.get()
    me = threading.get_ident()
    if branch is None:
        return scopes.get(me)
    if branch.home != me:
        return seen_from(branch, me)
    return branch


def seen_from(branch: Branch, me: int) -> Branch:
    """What the branch of a context is in this thread, which need not be the one that runs it."""
    if branch.home is None:
        branch.home = me
        return branch
    own = scopes.get(me)
    if own is not None and own.attempt is branch.attempt and own.scope.startswith(branch.scope):
        return own
    if branch.task is not None:
        # Its task awaits the thread, and stands still meanwhile.
        branch.attempt.parking.count(me)
        return branch
    return branch.unordered()


def task_of(branch: Branch | None) -> asyncio.Task[Any] | None:
    return None if branch is None else branch.task


def without_order(what: str) -> KitaruContextError:
    return KitaruContextError(
        f"{what} in a thread that the flow did not see begin: nothing there comes before anything else",
        hint="start it where the flow sees it: with .submit(...), threading.Thread or a ThreadPoolExecutor",
    )


def branch_of_call(name: str) -> Branch | None:
    """The branch that calls; None outside of any flow.

    Raises:
        KitaruContextError: in a thread, or an event loop, that the execution knows nothing of.
    """
    branch = this_branch()
    if branch is None:
        if active.lost_context():
            raise KitaruContextError(
                f"{name} was called in a thread without the flow's context",
                hint=f"start it with {name}.submit(...) or {name}.map([...]), which give its journal key a place",
            )
        return None
    return branch
