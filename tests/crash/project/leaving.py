"""A flow whose processes may outlive it. Each says in CRASH_TRACE who it is; what stands, stands until CRASH_GATE."""

import atexit
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from threading import Thread
from typing import Any

from kitaru import checkpoint, flow, wait

pool: Any = None
kept: Any = None


def tell(event: str, key: str) -> None:
    trace = os.open(os.environ["CRASH_TRACE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(trace, f"{event} {key} {os.getpid()} -\n".encode())
    os.close(trace)


def stand() -> None:
    while not Path(os.environ["CRASH_GATE"]).exists():
        time.sleep(0.01)


def work(stands: bool) -> int:
    tell("begin", "work")
    if stands:
        stand()
    return 1


def use_pool(stands: bool = False) -> int:
    """A pool of the module's own, as of one that is kept for all calls: nobody shuts it down."""
    global pool
    pool = pool or ProcessPoolExecutor(2, mp_context=get_context("fork"))
    return sum(pool.map(work, [stands]))


def leave_group() -> int:
    """A daemon, in the way of Unix."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            tell("begin", "daemon")
            stand()
        os._exit(0)
    os.wait()
    return 1


def leave_command(**options: Any) -> int:
    """A program that is started and not waited for."""
    told = f"echo begin daemon $$ - >> '{os.environ['CRASH_TRACE']}'"
    script = f"{told}; while [ ! -e '{os.environ['CRASH_GATE']}' ]; do sleep 0.01; done"
    subprocess.Popen(["/bin/sh", "-c", script], close_fds=False, **options)
    return 1


LEAVING = {
    "pool": use_pool,
    "daemon": leave_group,
    "command": leave_command,
    "session": lambda: leave_command(start_new_session=True),
}


@checkpoint
def leave(what: str) -> int:
    return LEAVING[what]()


@checkpoint
def die_once() -> str:
    """The kernel's memory killer comes by."""
    if Path(os.environ["CRASH_TRACE"]).read_text().count("begin die") == 0:
        tell("begin", "die")
        os.kill(os.getpid(), signal.SIGKILL)
    return "went on"


@checkpoint
def stand_with_pool() -> str:
    use_pool(stands=True)
    return "went on"


def say_goodbye() -> None:
    tell("begin", "goodbye")
    stand()
    Path(os.environ["CRASH_TRACE"] + ".goodbye").write_text("said")


def end_slowly() -> None:
    """Exit handlers, a file that nobody closes, a thread that still works: as in any Python process."""
    global kept
    kept = Path(os.environ["CRASH_TRACE"] + ".rows").open("w")  # noqa: SIM115  # nobody closes it
    kept.write("1,2,3\n")
    atexit.register(say_goodbye)
    Thread(target=lambda: (stand(), tell("end", "thread"))).start()
    print("the last line", end="")


@flow
def leaving(what: str, then: str) -> object:
    if what == "end":
        return end_slowly()
    if what == "stand":
        return stand_with_pool()
    leave(what)
    match then:
        case "wait":
            return wait(name="go", schema=bool)
        case "die":
            return die_once()
    return sys.platform
