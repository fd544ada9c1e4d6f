"""A process that runs flows from source: what it leaves behind, and how it ends."""

from __future__ import annotations

import os
import signal

import pytest
from tests.sdk.conftest import Project

from kitaru_runner.host.locks import FileLock, execution_lock, owner_of

BUSY = """
from concurrent.futures import ThreadPoolExecutor

@checkpoint
def double(number):
    return 2 * number

@flow
def child(number: int) -> int:
    return double(number)

@flow
def late() -> list[int]:
    wait_until_main_thread_has_ended()
    with ThreadPoolExecutor(2) as pool:
        pooled = list(pool.map(abs, [-1, -2]))
    return [double.submit(1).result(), child.run(2).wait(), *pooled]

def wait_until_main_thread_has_ended():
    import threading
    script = threading.main_thread().ident
    while not Path("last line").exists() or sys._current_frames()[script].f_code.co_filename != threading.__file__:
        time.sleep(0.01)

late.run()
Path("last line").touch()
"""


@pytest.mark.parametrize(("last_line", "code"), [("", 0), ("sys.exit(3)", 3), ("1 / 0", 1)])
def test_a_flow_that_outlives_its_script_may_start_all_that_it_needs(
    project: Project, last_line: str, code: int
) -> None:
    project.write(BUSY + last_line)

    script = project.start("flows.py")
    script.communicate(timeout=60)

    assert script.returncode == code
    (late,) = project.client.executions.list(flow="late")
    assert project.client.executions.get(late.exec_id).result == [2, 4, 1, 2]


POOLED = """
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
pool = ProcessPoolExecutor(1, mp_context=get_context("fork"))

@checkpoint
def use_pool():
    return list(pool.map(abs, [-1, -2]))

def stand():
    Path("new").write_text(str(os.getpid()))
    Path("new").rename("worker")
    while not Path("gate").exists():
        time.sleep(0.01)
    return 3

@checkpoint
def stand_in_pool():
    return pool.submit(stand).result()

@flow
def pooled() -> list[int]:
    return [*use_pool(), stand_in_pool()]

if __name__ == "__main__":
    pooled.run().wait()
"""


def test_a_pool_that_outlives_its_killed_script_keeps_nobody_from_resuming(project: Project) -> None:
    project.write(POOLED)
    script = project.start("flows.py")
    project.until_there("worker")
    worker = int((project.root / "worker").read_text())
    script.kill()
    script.wait()
    (project.root / "gate").touch()

    resumed = project.client.executions.resume(project.only_execution().exec_id)

    assert resumed.wait(60) == [1, 2, 3]
    os.kill(worker, signal.SIGKILL)  # it has lived until now, as such orphans do


def test_who_holds_an_execution_is_named_by_who_lives(project: Project) -> None:
    path = execution_lock(project.home, "e-1")
    lock = FileLock.acquire(path)
    assert lock is not None
    lock.write(f"{os.getpid()} (runner 1)")

    assert owner_of(path) == f"process {os.getpid()} (runner 1)"

    lock.write("4194304 (runner 4194305)")  # above the largest number of a process
    assert owner_of(path) == f"process {os.getpid()}, which its own process has left behind"
    lock.release()


def test_ctrl_c_after_the_end_of_the_script_leaves_the_flow_to_be_resumed(project: Project) -> None:
    project.write(POOLED.replace("pooled.run().wait()", "pooled.run()"))
    script = project.start("flows.py")
    project.until_there("worker")
    worker = int((project.root / "worker").read_text())

    script.send_signal(signal.SIGINT)
    code = script.wait(60)

    os.kill(worker, signal.SIGKILL)
    assert code == 130
    assert project.only_execution().status == "pending"
