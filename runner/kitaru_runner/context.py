"""Where code runs: the current branch of an execution, and the keys that it gives out.

A checkpoint's identity is a path of scopes. Each asyncio task, each `.submit` or `.map` element and each try of a
checkpoint opens a scope, numbered by creation in its parent; a name and its ordinal count within the scope. So the
keys depend on the flow's own structure, not on which branch was faster.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from kitaru_registry.errors import KitaruContextError, KitaruUsageError
from kitaru_registry.metadata import merge_metadata
from kitaru_runner.json_text import compact

if TYPE_CHECKING:
    import asyncio

    from kitaru_runner.engine import Engine
    from kitaru_runner.protocol import Saved

MOST_LOGGED_BYTES = 4 << 20
"""Of metadata as JSON, by one try of a checkpoint: it goes with the outcome, wherever that is read."""

_logging = threading.Lock()
"""The threads of a try log one after another; a lock for each try would cost all of them."""

current: ContextVar[Branch | None] = ContextVar("kitaru_branch", default=None)


class Call(NamedTuple):
    """One call in a scope: its key, its name and how many calls the scope had made before."""

    key: str
    name: str
    scope: str
    place: int


making = threading.Lock()
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

    __slots__ = ("_ordinals", "_places", "call", "engine", "left_behind", "scope", "span", "task")

    def __init__(
        self, engine: Engine, scope: str = "", call: Call | None = None, span: Span | None = None
    ) -> None:  # fmt: skip
        self.engine = engine
        self.scope = scope
        self.call = call
        """The checkpoint that this branch executes; None in the flow's body."""
        self.span = span
        """Of the innermost try that has a timeout."""
        self.task: asyncio.Task[Any] | None = None
        self.left_behind: Left | None = None
        """Made when something is: most tries leave nothing but their value."""
        self._ordinals: dict[str, int] = {}
        self._places = 0

    def next_call(self, name: str, id_: str | None = None) -> Call:
        place, self._places = self._places, self._places + 1
        return Call(self.scope + (self._taken(id_) if id_ else self._numbered(name)), name, self.scope, place)

    def open(self, kind: str) -> Branch:
        """A scope of its own, numbered by creation: `submit[0]/`, `task[1]/`."""
        number = self._ordinals[f"[{kind}"] = self._ordinals.get(f"[{kind}", -1) + 1
        return self._inner(f"{self.scope}{kind}[{number}]/")

    def open_map(self, count: int) -> list[Branch]:
        """A scope for each element: `map[0]/`, and `map#2[0]/` of a second map in the same scope."""
        name = self._numbered("map")
        return [self._inner(f"{self.scope}{name}[{index}]/") for index in range(count)]

    def open_try(self, call: Call, number: int) -> Branch:
        return Branch(self.engine, f"{call.key}/try{number}/", call, self.span)

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
        inner = Branch(self.engine, scope, call=self.call, span=self.span)
        inner.left_behind = self.left
        return inner

    def _numbered(self, name: str) -> str:
        ordinal = self._ordinals[name] = self._ordinals.get(name, 0) + 1
        return name if ordinal == 1 else f"{name}#{ordinal}"


class ActiveEngines:
    """The engines of this process, to tell a plain call from one in a thread that lost its context."""

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


active = ActiveEngines()


def branch_of_call(name: str) -> Branch | None:
    """The branch that calls; None outside of any flow.

    Raises:
        KitaruContextError: in a thread, or an event loop, that the execution knows nothing of.
    """
    branch = current.get()
    if branch is None:
        if active.lost_context():
            raise KitaruContextError(
                f"{name} was called in a thread without the flow's context",
                hint=f"start it with {name}.submit(...) or {name}.map([...]), which give its journal key a place",
            )
        return None
    return branch
