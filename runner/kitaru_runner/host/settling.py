"""How it comes to be recorded that an attempt ended."""

from __future__ import annotations

import threading
from collections.abc import Callable

from kitaru_registry.errors import KitaruBackendError

SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 2.0


def until_written(write: Callable[[], object], *, tell: Callable[[str], None], gives_up: threading.Event) -> None:
    """Try again until the record can be written, or the runner gives up.

    Then the execution stays `running` with nobody who holds its lock: whoever claims it next settles this.
    """
    pause_seconds = SHORTEST_PAUSE_SECONDS
    while True:
        try:
            write()
            return
        except KitaruBackendError as error:
            tell(error.message)
            if gives_up.wait(pause_seconds):
                return
            pause_seconds = min(pause_seconds * 2, LONGEST_PAUSE_SECONDS)
