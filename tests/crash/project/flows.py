"""Flows that tell what they do: a line `EVENT KEY PID NONCE` for each try, in the file that CRASH_TRACE names."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from uuid import uuid4

from kitaru import checkpoint, flow, log, save, wait

WORK_SECONDS = 0.02


def tell(event: str, key: str, nonce: str = "-") -> None:
    trace = os.open(os.environ["CRASH_TRACE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(trace, f"{event} {key} {os.getpid()} {nonce}\n".encode())
    os.close(trace)


def told(event: str, key: str) -> int:
    return Path(os.environ["CRASH_TRACE"]).read_text().count(f"{event} {key} ")


def tick() -> None:
    """A side effect that goes on for as long as the process."""
    while True:
        tell("tick", "-")
        time.sleep(WORK_SECONDS / 4)


@contextmanager
def trying(key: str) -> Iterator[None]:
    """A try of the checkpoint with this journal key. The nonce goes into its journal row."""
    nonce = uuid4().hex
    log(nonce=nonce)
    tell("begin", key, nonce)
    time.sleep(WORK_SECONDS)
    yield
    tell("end", key, nonce)


@checkpoint
def plan(topic: str) -> list[str]:
    with trying("plan"):
        return [f"{topic} {number}" for number in range(4)]


@checkpoint
def research(number: int, question: str) -> str:
    with trying(f"map[{number}]/research"):
        return question.upper()


@checkpoint(retries=1)
def weigh(notes: list[str]) -> dict[str, int]:
    """What it calls fails the first time that it is called."""
    with trying("weigh"):
        if told("begin", "weigh") == 1:
            raise ConnectionError("the scales are busy")
        return {note: len(note) for note in notes}


@checkpoint
def draft(notes: list[str]) -> str:
    """Too large for a row, and with an artifact in the same commit."""
    with trying("submit[0]/draft"):
        save("outline", notes)
        return "\n".join(notes) * 1000


@checkpoint
def check(weights: dict[str, int]) -> int:
    with trying("submit[1]/check"):
        return sum(weights.values())


@checkpoint
def publish(text: str, total: int) -> str:
    with trying("publish"):
        return f"{len(text)} characters, {total} in all"


@checkpoint
def announce(line: str) -> str:
    with trying("announce"):
        return f"published: {line}"


@flow
def tour(topic: str) -> str:
    """Ten checkpoints: in a row, in a map, submitted, retried; and a wait."""
    Thread(target=tick, daemon=True).start()
    questions = plan(topic)
    notes = [future.result() for future in research.map(range(4), questions)]
    weights = weigh(notes)
    if not wait(name="approve", schema=bool):
        return "rejected"
    text, total = draft.submit(notes), check.submit(weights)
    return announce(publish(text.result(), total.result()))


@checkpoint
def doom(victim: str) -> None:
    with trying("doom"):
        os.kill(os.getppid() if victim == "runner" else os.getpid(), signal.SIGKILL)
        signal.pause()


@flow
def doomed(victim: str) -> None:
    """Never gets anywhere."""
    doom(victim)


@checkpoint
def stumble(number: int) -> int:
    key = f"stumble#{number}" if number > 1 else "stumble"
    with trying(key):
        if told("begin", key) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return number


@flow
def stumbling(steps: int) -> int:
    """Its process is killed once in each step."""
    return sum(stumble(number) for number in range(1, steps + 1))


def stand_at_gate() -> str:
    """Until the test makes the file that CRASH_GATE names."""
    while not Path(os.environ["CRASH_GATE"]).exists():
        time.sleep(WORK_SECONDS / 4)
    return "open"


@checkpoint
def pass_gate() -> str:
    with trying("pass_gate"):
        save("view", "from the gate")
        return stand_at_gate()


@flow
def gated(before: str = "checkpoint") -> str:
    """Stands still before it writes what is named: a `checkpoint`, a `save`, a `wait`, its `end`."""
    if before == "checkpoint":
        return pass_gate()
    plan("first")
    tell("begin", "pass_gate")
    stand_at_gate()
    if before == "save":
        save("large", "x" * 20_000)
    elif before == "wait":
        wait(name="approve", schema=bool)
    return "open"


@checkpoint
def hoard(number: int, size: int) -> str:
    with trying(f"hoard-{number}"):
        return str(number).ljust(size, "x")


@flow
def hoarding(steps: int, size: int) -> int:
    """Fills the disk, and would rather not hear of it."""
    for number in range(steps):
        try:
            hoard(number, size)
        except Exception as error:
            tell("heard", type(error).__name__)
        tell("got", f"hoard-{number}")
    return steps


@checkpoint
def work(number: int) -> int:
    with trying(f"work{number}"):
        return number * 10


@flow
def half(number: int) -> int:
    return work(number)


@flow
def whole() -> list[int]:
    """Two child executions side by side."""
    halves = [half.run(number) for number in (1, 2)]
    return [work(3), *(started.wait() for started in halves)]
