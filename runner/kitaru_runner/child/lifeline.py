"""How a process group ends with somebody else: the kernel kills it when the other end of a pipe is closed."""

from __future__ import annotations

import fcntl
import os
import signal
import sys


def end_group_with(lifeline: int) -> None:
    """Let this process's group be killed as soon as nobody holds the other end, whoever of the group lives then.

    Args:
        lifeline: the reading end of a pipe, whose other end its owner alone holds.
    """
    os.set_inheritable(lifeline, False)
    if sys.platform == "linux":
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
