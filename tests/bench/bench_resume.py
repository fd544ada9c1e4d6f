"""SIGKILL at step 990 of 1,000, and on to the end: the engine alone, the child killed, runner and child killed."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from measuring import Figure, Target, milliseconds, report
from places import PATIENCE_SECONDS, Place, RawJournal, place

from kitaru.client import KitaruClient
from kitaru_registry.executions import creating, queue
from kitaru_registry.executions.attempt_journal import RegistryJournal
from kitaru_registry.executions.ids import new_execution_id
from kitaru_registry.executions.journal import JournalWriter
from kitaru_registry.journal.entries import Encoded
from kitaru_runner.engine.body.body import run_body
from kitaru_runner.engine.core.attempt import Attempt
from kitaru_runner.values import codec
from kitaru_runner.values.failures import ProcessEnded

STEPS = 1000
KILLED_AT = 990
ROUNDS = 5


class CutShort(ProcessEnded):
    """Stands for the end of the process: it passes the engine by, as a SIGKILL does."""


def attempt(client: KitaruClient, writer: JournalWriter, exec_id: Any, body: Any) -> None:
    """Claim and run one attempt in this process."""
    owner = queue.Owner("bench", os.getpid(), "here")
    claim = queue.claim(client.database, queue.candidate(client.database, exec_id), owner)
    assert claim is not None
    journal = RegistryJournal(client.database, writer, claim, stays=True)
    attempt = Attempt(journal, journal.open(entrypoint=""))
    journal.listener = attempt.parking
    inputs: Mapping[str, Any] = codec.decode(Encoded(claim.inputs_codec, claim.inputs_data))
    try:
        run_body(attempt, body, inputs)
    except CutShort:
        pass


def engine_alone(found: Place) -> Figure:
    from flows import step  # type: ignore[import-not-found]  # of the project that was just made

    def first() -> None:
        for number in range(KILLED_AT):
            step(number)
        raise CutShort

    def second() -> int:
        for number in range(STEPS):
            step(number)
        return STEPS

    figure = Figure(
        "resume at 990 of 1,000, engine alone", beside="10 raw commits, FULL", targets=(Target("value", 100),)
    )
    raw, writer = RawJournal(found.home.root, "FULL"), JournalWriter(found.client.database)
    for _ in range(ROUNDS):
        new = creating.NewExecution(
            exec_id=new_execution_id(), project="default", flow="bench", kind="source", inputs={},
            inputs_codec="json", inputs_data=b"{}", input_digest="", actor="bench",
        )  # fmt: skip
        creating.create(found.client.database, new)
        attempt(found.client, writer, new.exec_id, first)
        limit = sum(raw.commits(STEPS - KILLED_AT))
        figure.add(milliseconds(lambda exec_id=new.exec_id: attempt(found.client, writer, exec_id, second)), limit)
        assert found.client.executions.status(new.exec_id) == "completed"
    raw.close()
    writer.close()
    return figure


def killed(found: Place, victim: str, notes: Path) -> tuple[float, float, Counter[str]]:
    """Milliseconds from the kill to the end, those of the whole command that resumed, and the steps that executed."""
    notes.mkdir()
    (notes / f"kill-{KILLED_AT}").write_text(victim)
    handle = found.client.deployments.invoke(flow="killed", inputs={"steps": STEPS, "notes": str(notes)})
    while not (notes / "killed").exists() or not (notes / "killed").read_text():
        time.sleep(0.001)
    command = milliseconds(lambda: found.kitaru("executions", "resume", handle.exec_id)) if victim == "runner" else 0.0
    handle.wait(PATIENCE_SECONDS)
    ended = found.client.executions.get(handle.exec_id).ended_at
    assert ended is not None
    executed = Counter((notes / "executed").read_text().split())
    return (ended.timestamp() - float((notes / "killed").read_text())) * 1000, command, executed


def whole_process(found: Place) -> list[Figure]:
    child = Figure("resume at 990 of 1,000, child killed, to the end", targets=(Target("value", 1000),))
    both = Figure(
        "resume at 990 of 1,000, runner and child killed, `kitaru executions resume`", targets=(Target("value", 1000),)
    )
    again = Figure("steps executed twice: those that were not recorded", unit="steps", targets=(Target("value", 1),))
    for number in range(ROUNDS):
        took, _, executed = killed(found, "child", found.home.root / f"child-{number}")
        child.add(took)
        again.add(sum(executed.values()) - STEPS)
        _, command, executed = killed(found, "runner", found.home.root / f"runner-{number}")
        both.add(command)
        again.add(sum(executed.values()) - STEPS)
    return [child, both, again]


def main() -> None:
    with place(flows=["killed"]) as found:
        report(__file__, [engine_alone(found), *whole_process(found)])


if __name__ == "__main__":
    main()
