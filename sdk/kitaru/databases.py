"""The databases that this process has open, one for all clients of a home; closed when the last of these has gone."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections import deque
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from kitaru_registry.api.local import LocalRegistry
    from kitaru_registry.database.opening import Database
    from kitaru_registry.executions.journal import JournalWriter
    from kitaru_registry.home import Home

Key = tuple["Home", str]
"""A home, and what is said of `synchronous`."""


class Opened:
    """A database, and the connection over which this process records."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.users = 0
        self.is_closed = False
        self._making = threading.Lock()
        self._writer: JournalWriter | None = None

    @cached_property
    def registry(self) -> LocalRegistry:
        from kitaru_registry.api.local import LocalRegistry

        return LocalRegistry(self.database)

    @property
    def writer(self) -> JournalWriter:
        from kitaru_registry.executions.journal import JournalWriter

        with self._making:
            if self._writer is None:
                self._writer = JournalWriter(self.database)
            return self._writer

    def leave_to_parent(self) -> object:
        """In a fork: the connection is its parent's; what is returned is to be kept, so that nobody closes it."""
        self._making = threading.Lock()
        left, self._writer = self._writer, None
        return left

    def close(self) -> None:
        self.is_closed = True
        if self._writer is not None:
            self._writer.close()
        self.database.close()


class Use:
    """One user's share of what is open; it ends with `end()`, or with the user."""

    def __init__(self, user: object, opened: Opened, gone: deque[Opened]) -> None:
        self.opened = opened
        self.end = weakref.finalize(user, gone.append, opened)
        self.end.atexit = False


class Shared:
    """Databases by home. The one that was used last stays open until another is: clients that come one after another,
    as a script's `.run()` calls make them, open it once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened: dict[Key, Opened] = {}
        self._last: Opened | None = None
        # Noted by a collection of garbage, which may come while this thread holds the lock.
        self._gone: deque[Opened] = deque()
        self._left: list[object] = []

    def take(self, user: object, home: Home, synchronous: str) -> Use:
        """The home's database, for as long as `user` lives, or until its use is ended."""
        from kitaru_registry.database.opening import open_database
        from kitaru_runner.engine.core.forking import drop_in_forks

        drop_in_forks("databases", self._leave_to_parent)
        key = (home, synchronous)
        with self._lock:
            if key not in self._opened:
                self._opened[key] = Opened(open_database(home, synchronous=synchronous))
            self._last = found = self._opened[key]
            found.users += 1
            self._close_unused()
            return Use(user, found, self._gone)

    def put(self, home: Home, synchronous: str, database: Database) -> None:
        """Let this be what clients of the home share."""
        with self._lock:
            self._opened[home, synchronous] = Opened(database)

    def close_unused(self) -> None:
        """Close what nobody uses any more, the last one too."""
        with self._lock:
            self._last = None
            self._close_unused()

    def drop(self, root: Path | None = None) -> None:
        """Close what is open of a home, or of all; whoever goes on with it opens it again."""
        with self._lock:
            for key in [key for key in self._opened if root in (None, key[0].root)]:
                self._opened.pop(key).close()

    def _leave_to_parent(self) -> None:
        """In a fork: what is open is the parent's. Clients that it has go on with connections of their own."""
        self._lock = threading.Lock()
        self._left += [opened.leave_to_parent() for opened in self._opened.values()]

    def is_open(self, root: Path) -> bool:
        return any(key[0].root == root for key in self._opened)

    def _close_unused(self) -> None:
        while self._gone:
            self._gone.popleft().users -= 1
        for key, opened in list(self._opened.items()):
            if not opened.users and opened is not self._last:
                self._opened.pop(key).close()


shared = Shared()
atexit.register(shared.drop)
