"""When a runner looks into the record: as soon as it is told to, when something is due, and now and then."""

from __future__ import annotations

import os
from contextlib import suppress


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
