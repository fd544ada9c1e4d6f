"""How a process stays for the flows that it runs, although its script has come to its end.

Python lets threads that are no daemons end before it goes, but by then it refuses new work: thread pools from that
moment on, and 3.12.0 and 3.12.1 every new thread. So what is to be waited for is waited for before.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

from kitaru_runner.engine.core.blocking import frames_of_threads

REFUSES_THREADS = (3, 12, 0) <= sys.version_info[:3] <= (3, 12, 1)
"""Whether the main thread's end is too late: github.com/python/cpython/issues/113964."""


def stay_until(over: Callable[[], None]) -> None:
    """Call `over` when the main thread has come to its end, and threads can be started; to be said once."""
    shut_down: Callable[[], None] = threading._shutdown  # type: ignore[attr-defined]  # what Python calls first

    def stay_and_shut_down() -> None:
        over()
        shut_down()

    threading._shutdown = stay_and_shut_down  # type: ignore[attr-defined]  # as above
    if REFUSES_THREADS:
        at_end_of(outermost(frames_of_threads()[threading.main_thread().ident or 0]).f_code, over)


def outermost(frame: FrameType) -> FrameType:
    while frame.f_back is not None:
        frame = frame.f_back
    return frame


def at_end_of(script: CodeType, over: Callable[[], None]) -> None:
    """Call `over` when the code returns, or is left by `sys.exit()`; at another exception Python calls its hook."""
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]  # since 3.12
    tool = next((number for number in range(5, -1, -1) if monitoring.get_tool(number) is None), None)
    if tool is None:
        return

    def returns(code: CodeType, offset: int, value: object) -> None:
        if code is script:
            over()

    def unwinds(code: CodeType, offset: int, error: BaseException) -> None:
        if code is script and isinstance(error, SystemExit):
            over()

    monitoring.use_tool_id(tool, "kitaru")
    monitoring.register_callback(tool, monitoring.events.PY_RETURN, returns)
    monitoring.register_callback(tool, monitoring.events.PY_UNWIND, unwinds)
    monitoring.set_local_events(tool, script, monitoring.events.PY_RETURN)
    monitoring.set_events(tool, monitoring.events.PY_UNWIND)
