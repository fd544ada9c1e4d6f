"""When a runner looks into the record: as soon as it is told to, when something is due, and now and then."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress

from kitaru_registry.database import Database
from kitaru_registry.errors import KitaruBackendError


class Bell:
    """How the threads of a runner let its main thread look at once."""

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def ring(self) -> None:
        with suppress(OSError):  # closed: there is nobody who would look
            os.eventfd_write(self.descriptor, 1)

    def silence(self) -> bool:
        """Whether it was rung since."""
        try:
            return os.eventfd_read(self.descriptor) > 0
        except BlockingIOError:
            return False

    def close(self) -> None:
        os.close(self.descriptor)


class Changes:
    """Whether anybody has committed since the last look: told by a counter in memory, no table is read for it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: sqlite3.Connection | None = None
        self._seen: object = None

    def have_come(self) -> bool:
        try:
            if self._connection is None:
                self._connection = self._database.hold()
            (found,) = self._connection.execute("PRAGMA data_version").fetchone()
        except (sqlite3.Error, KitaruBackendError):
            return True  # who looks will hear of it
        before, self._seen = self._seen, found
        return bool(before != found)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
