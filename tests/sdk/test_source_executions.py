"""A source execution outlives its process: it can be resumed, on the files that it began with."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from kitaru_registry.errors import KitaruConflictError, KitaruStateError

if TYPE_CHECKING:
    from tests.sdk.conftest import Project

    from kitaru_registry.models import Execution

FLOWS = """
def ran(what):
    with open("ran", "a") as file:
        file.write(what + " ")

@checkpoint
def draft(topic):
    ran(topic)
    return f"About {topic}"

@checkpoint
def at_gate(name):
    ran("at_gate")
    Path(name + ".reached").touch()
    while not Path(name).exists():
        time.sleep(0.005)
    return name

@flow
def slow(topic: str):
    return [draft(topic), at_gate("gate"), draft("the end")]

@flow
def review(topic: str):
    return draft(topic) if wait(name="approve", question="Publish?", schema=bool) else "Rejected"

@flow
def nap(seconds: float):
    sleep(seconds)
    return "awake"
"""
RESULT = ["About agents", "gate", "About the end"]


def begin(project: Project) -> tuple[subprocess.Popen[str], Execution]:
    """A script whose last line runs its flow, at its gate."""
    project.write(FLOWS + '\nprint(slow.run("agents").wait())\n')
    process = project.start("flows.py")
    project.until_there("gate.reached")
    return process, project.only_execution()


def kill(project: Project) -> Execution:
    process, execution = begin(project)
    process.kill()
    process.wait()
    return execution


def ran(project: Project) -> str:
    return (project.root / "ran").read_text().strip()


def test_a_script_that_runs_its_flow_prints_the_result(project: Project) -> None:
    project.open_gate("gate")
    project.write(FLOWS + '\nprint(slow.run("agents").wait())\n')

    told, errors = project.start("flows.py").communicate(timeout=60)

    assert (told, errors) == (f"{RESULT}\n", "")
    found = project.only_execution()
    assert (found.kind, found.status, found.inputs) == ("source", "completed", {"topic": "agents"})


def test_a_script_that_does_not_wait_ends_with_its_flow(project: Project) -> None:
    project.open_gate("gate")
    project.write(FLOWS + '\nslow.run("agents")\n')

    _, errors = project.start("flows.py").communicate(timeout=60)

    assert errors == ""
    assert project.only_execution().result == RESULT


def test_an_execution_whose_process_was_killed_says_so_and_is_resumed(project: Project) -> None:
    execution = kill(project)

    gone = project.client.executions.get(execution.exec_id)
    assert gone.status == "running"
    assert gone.status_reason == f"its process is gone; go on: kitaru executions resume {execution.exec_id}"

    project.open_gate("gate")
    assert project.client.executions.resume(execution.exec_id).wait(60) == RESULT
    assert ran(project) == "agents at_gate at_gate the end"
    assert project.client.executions.get(execution.exec_id).attempt == 2


def test_it_is_not_run_by_its_own_last_line_when_it_is_resumed(project: Project) -> None:
    execution = kill(project)
    project.open_gate("gate")
    project.client.executions.resume(execution.exec_id).wait(60)

    assert project.only_execution().exec_id == execution.exec_id


def test_one_that_runs_still_is_not_resumed(project: Project) -> None:
    process, execution = begin(project)

    with pytest.raises(KitaruStateError, match=f"is still running as process {process.pid}"):
        project.client.executions.resume(execution.exec_id)

    project.open_gate("gate")
    assert process.communicate(timeout=60)[0] == f"{RESULT}\n"


def test_ctrl_c_ends_a_script_whose_execution_can_be_resumed(project: Project) -> None:
    process, execution = begin(project)

    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=20)

    assert process.returncode in (130, -signal.SIGINT)
    assert f"kitaru executions resume {execution.exec_id}" in told
    stopped = project.client.executions.get(execution.exec_id)
    assert (stopped.status, stopped.status_reason) == (
        "pending", f"stopped by Ctrl-C; go on: kitaru executions resume {execution.exec_id}",
    )  # fmt: skip
    project.open_gate("gate")
    assert project.client.executions.resume(execution.exec_id).wait(60) == RESULT
    assert ran(project) == "agents at_gate at_gate the end"


# Edits


def test_resume_is_refused_after_an_edit_and_names_the_file(project: Project) -> None:
    project.write("# helps\n", name="helping.py")
    execution = kill(project)
    project.write("# helps more\n", name="helping.py")
    project.open_gate("gate")

    with pytest.raises(KitaruConflictError, match=r"has changed since it began: helping\.py$") as caught:
        project.client.executions.resume(execution.exec_id)

    assert caught.value.hint is not None
    assert f"kitaru executions resume {execution.exec_id} --with-edits" in caught.value.hint
    assert project.client.executions.get(execution.exec_id).attempt == 1


def test_with_the_file_restored_it_is_resumed(project: Project) -> None:
    execution = kill(project)
    edited = project.root / "flows.py"
    before = edited.read_text()
    edited.write_text(before.replace("About", "On"))
    with pytest.raises(KitaruConflictError, match=r"flows\.py"):
        project.client.executions.resume(execution.exec_id)

    edited.write_text(before)
    project.open_gate("gate")

    assert project.client.executions.resume(execution.exec_id).wait(60) == RESULT


def test_with_edits_it_goes_on_with_what_is_recorded(project: Project) -> None:
    execution = kill(project)
    edited = project.root / "flows.py"
    edited.write_text(edited.read_text().replace("About", "On"))
    project.open_gate("gate")

    handle = project.client.executions.resume(execution.exec_id, with_edits=True)

    assert handle.wait(60) == ["About agents", "gate", "On the end"]


def test_an_edit_that_makes_other_calls_fails_and_names_the_line(project: Project) -> None:
    execution = kill(project)
    edited = project.root / "flows.py"
    edited.write_text(edited.read_text().replace("[draft(topic), at_gate", "[at_gate('gate'), at_gate"))
    project.open_gate("gate")

    project.client.executions.resume(execution.exec_id, with_edits=True).until_settled(60)

    error = project.client.executions.get(execution.exec_id).error
    assert error is not None
    assert (error.type, error.message) == (
        "KitaruDivergenceError", "call 1 is at_gate, but the journal holds draft there",
    )  # fmt: skip
    line = next(n for n, text in enumerate(edited.read_text().splitlines(), start=1) if "[at_gate('gate')" in text)
    assert (error.file, error.line) == (str(edited), line)


# Waits


def test_an_answer_starts_one_again_whose_process_is_gone(project: Project) -> None:
    project.write(FLOWS + '\nreview.run("agents").wait()\n')
    process = project.start("flows.py")
    execution = waiting(project)
    process.kill()
    process.wait()
    gone = project.client.executions.get(execution.exec_id)
    assert (gone.status, gone.status_reason) == ("waiting", "its process is gone; an answer starts it again")

    project.client.executions.input(execution.exec_id, value=True)

    assert project.until_status(execution.exec_id, "completed").result == "About agents"


def test_an_answer_reaches_the_process_that_waits(project: Project) -> None:
    project.write(FLOWS + '\nprint(review.run("agents").wait())\n')
    process = project.start("flows.py")
    execution = waiting(project)

    project.client.executions.input(execution.exec_id, value=False)

    assert process.communicate(timeout=60) == ("Rejected\n", "")
    assert project.client.executions.get(execution.exec_id).attempt == 1


def test_ctrl_c_at_a_wait_ends_the_script_and_leaves_it_waiting(project: Project) -> None:
    project.write(FLOWS + '\nreview.run("agents").wait()\n')
    process = project.start("flows.py")
    execution = waiting(project)

    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)

    assert project.client.executions.get(execution.exec_id).status == "waiting"
    project.client.executions.input(execution.exec_id, value=True)
    assert project.until_status(execution.exec_id, "completed").result == "About agents"


def test_one_that_waits_is_answered_not_resumed(project: Project) -> None:
    project.write(FLOWS + '\nreview.run("agents").wait()\n')
    project.start("flows.py")
    execution = waiting(project)

    with pytest.raises(KitaruStateError, match="waits for approve"):
        project.client.executions.resume(execution.exec_id)


def asleep(project: Project) -> Execution:
    """One that sleeps in a process which is gone."""
    project.write(FLOWS + "\nnap.run(600).wait()\n")
    process = project.start("flows.py")
    execution = waiting(project)
    process.kill()
    process.wait()
    return execution


def test_one_that_slept_in_a_process_which_is_gone_sleeps_on_in_another(project: Project) -> None:
    execution = asleep(project)
    gone = project.client.executions.get(execution.exec_id)
    assert gone.status_reason == f"its process is gone; go on: kitaru executions resume {execution.exec_id}"

    handle = project.client.executions.resume(execution.exec_id)

    def sleeps() -> bool:
        found = project.client.executions.get(execution.exec_id)
        return found.status == "waiting" and str(found.status_reason).startswith("sleeps until")

    project.until(sleeps, "it sleeps in a process")
    handle.cancel()


def test_one_whose_time_came_while_nobody_was_there_is_named_and_goes_on(project: Project) -> None:
    execution = asleep(project)
    with project.client.database.write() as connection:
        connection.exec_driver_sql("UPDATE waits SET deadline_us = deadline_us - 3600000000")

    (found,) = [check for check in project.client.doctor() if check.name == "executions"]
    assert (found.ok, found.message) == (False, f"1 overdue: {execution.exec_id}")
    assert project.client.status().overdue == 1

    assert project.client.executions.resume(execution.exec_id).wait(60) == "awake"
    assert project.client.status().overdue == 0


def test_one_that_did_not_come_from_a_file_cannot_be_started_again(project: Project) -> None:
    project.write(FLOWS)
    process = project.start(
        "-c", 'exec(compile(open("flows.py").read(), "<nowhere>", "exec")); slow.run("agents").wait()'
    )
    project.until_there("gate.reached")
    execution = project.only_execution()
    process.kill()
    process.wait()

    with pytest.raises(KitaruStateError, match="did not come from a file"):
        project.client.executions.resume(execution.exec_id)


def waiting(project: Project) -> Execution:
    def is_waiting() -> bool:
        found = project.client.executions.list() if project.home.database.exists() else []
        return bool(found) and found[0].status == "waiting"

    project.until(is_waiting, "it waits")
    return project.only_execution()


# Deploying


@pytest.mark.parametrize(
    "last_line", ['slow.run("agents").wait()', 'print(slow.run("agents").status)', "slow.deploy()"]
)
def test_a_file_that_runs_its_flow_unguarded_is_described_without_running(project: Project, last_line: str) -> None:
    import sys
    from pathlib import Path

    from kitaru_runner.host.import_check import describe

    project.write(f'{FLOWS}\n{last_line}\nPath("after").touch()\n')
    described = describe(Path(sys.executable), project.root, "flows.py:slow", env={})

    assert described.flow == "slow"
    assert described.input_schema["required"] == ["topic"]
    assert not (project.root / "ran").exists()
    assert not project.home.database.exists()
