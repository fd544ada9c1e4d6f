"""The process that runs a deployed flow: lean, without credentials, behind the journal protocol.

It ends itself when its socket ends, when its runner dies, and when another attempt owns the execution.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import sys
import threading
from pathlib import Path

from kitaru_registry.errors import KitaruFencedError
from kitaru_runner.child.lifeline import end_group_with
from kitaru_runner.child.loader import find_flow, load_module, split_target
from kitaru_runner.child.socket_journal import EXIT_DONE, EXIT_FENCED, EXIT_ORPHANED, SocketJournal, leave
from kitaru_runner.engine.body import output as logs
from kitaru_runner.engine.body.body import run_body
from kitaru_runner.engine.core import forking
from kitaru_runner.engine.core.attempt import Attempt
from kitaru_runner.engine.core.in_flight import InFlightPage
from kitaru_runner.values import codec
from kitaru_runner.values.failures import ExecutionCancelled, describe_failure
from kitaru_runner.values.signatures import convert_inputs

PR_SET_PDEATHSIG = 1


def die_with_runner(runner_pid: int) -> None:
    """Let the kernel end this process with the runner's."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != runner_pid:
        leave(EXIT_ORPHANED)


def main() -> None:
    """`python -m kitaru_runner.child DESCRIPTOR RUNNER_PID PUSHES IN_FLIGHT LIFELINE`, in the folder of the code.

    When it returns, the end of the execution is recorded, and this process ends as every Python process does.
    """
    process = os.getpid()
    descriptor, runner_pid, pushes, page = map(int, sys.argv[1:5])
    die_with_runner(runner_pid)
    lifeline = int(sys.argv[5]) if len(sys.argv) > 5 else None  # an earlier runner gave none
    forking.close_what_was_given(but=lifeline)
    if lifeline is not None:
        end_group_with(lifeline)
    # Whoever ends this process by a signal lets the execution go on; a KeyboardInterrupt is then the flow's own.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    atexit.register(logs.end_lines)
    journal = SocketJournal(
        socket.socket(fileno=descriptor), pushes=socket.socket(fileno=pushes), page=InFlightPage(page)
    )
    opening, welcome = journal.open()
    logs.begin_own(opening.attempt)
    attempt = Attempt(journal, opening, fenced=journal.fenced)
    journal.listener = attempt.parking
    journal.on_cancel = lambda: attempt.cancel() if attempt.can_be_asked_to_end else leave(EXIT_DONE)
    threading.Thread(target=journal.listen, name="kitaru-journal", daemon=True).start()
    root = Path(welcome["folder"])
    attempt.root = str(root)
    file, name = split_target(opening.entrypoint)
    sys.argv[:] = [str(root / file)]
    sys.dont_write_bytecode = True
    try:
        flow = find_flow(load_module(root, root / file), name, file=file)
        given = codec.decode(opening.inputs)
        inputs = given if welcome.get("typed") else convert_inputs(flow.function, given)
    except BaseException as error:  # sys.exit() at import too: the execution has failed, and says so
        if os.getpid() != process:
            forking.end_fork(error)
        attempt.finish(None, describe_failure(error))
        return
    if os.getpid() != process:
        forking.end_fork()
    try:
        run_body(attempt, flow.function, inputs)
    except KitaruFencedError:
        leave(EXIT_FENCED)
    except ExecutionCancelled:
        leave(EXIT_DONE)  # its runner records that


if __name__ == "__main__":
    main()
