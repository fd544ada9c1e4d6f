"""What is measured. A flow gives the milliseconds of each of its calls, as its own clock saw them."""

import asyncio
import os
import signal
import time
from pathlib import Path

from kitaru import checkpoint, flow, wait


@checkpoint
def step(number: int) -> dict[str, object]:
    return {"number": number, "ok": True}


@flow
def sequential(steps: int) -> list[float]:
    """Milliseconds of each step."""
    took = []
    for number in range(steps):
        began = time.perf_counter()
        step(number)
        took.append((time.perf_counter() - began) * 1000)
    return took


@checkpoint
async def async_step(number: int) -> int:
    return number


begun: list[str] = []


@flow(retries=1)
async def resumed(steps: int) -> list[float]:
    """Milliseconds of each step on a loop, in an attempt to which all of them are recorded."""
    begun.append("attempt")
    took = []
    for number in range(steps):
        began = time.perf_counter()
        await async_step(number)
        took.append((time.perf_counter() - began) * 1000)
    if len(begun) % 2:
        raise RuntimeError("once more")
    return took


@checkpoint
async def pause(number: int) -> int:
    await asyncio.sleep(0.010)
    return number


@flow
async def gathered(steps: int) -> float:
    """Milliseconds of so many steps of 10 ms, side by side on one loop."""
    began = time.perf_counter()
    await asyncio.gather(*[pause(number) for number in range(steps)])
    return (time.perf_counter() - began) * 1000


@checkpoint
def sleep(number: int) -> int:
    time.sleep(0.010)
    return number


@flow
def mapped(steps: int) -> float:
    """The same in threads."""
    began = time.perf_counter()
    for future in sleep.map(range(steps)):
        future.result()
    return (time.perf_counter() - began) * 1000


@checkpoint
def large(size: int) -> bytes:
    return os.urandom(1 << 10) * (size >> 10)


@flow
def returning(size: int) -> float:
    """Milliseconds of a step that returns so many bytes."""
    began = time.perf_counter()
    large(size)
    return (time.perf_counter() - began) * 1000


@checkpoint
def noted(number: int, notes: str) -> dict[str, object]:
    """A step that says outside of the journal that it executes, and is killed once where the notes ask for it."""
    with Path(notes, "executed").open("a") as file:
        file.write(f"{number}\n")
    order = Path(notes, f"kill-{number}")
    if order.exists():
        target = order.read_text()
        order.unlink()
        Path(notes, "killed").write_text(str(time.time()))
        os.kill(os.getppid() if target == "runner" else os.getpid(), signal.SIGKILL)
        time.sleep(60)
    return {"number": number, "ok": True}


@flow
def killed(steps: int, notes: str) -> int:
    for number in range(steps):
        noted(number, notes)
    return steps


@flow
def counted(steps: int) -> int:
    for number in range(steps):
        step(number)
    return steps


@flow
def waiting(steps: int) -> int:
    """Waits behind so many steps."""
    counting = sum(int(step(number)["ok"] is True) for number in range(steps))
    wait(name="go", schema=bool)
    return counting


@flow
def given(data: bytes, number: int) -> int:
    return len(data) + number


@flow
def handing_on(size: int, children: int) -> int:
    """The sizes of what its children were given."""
    data = large(size)
    return sum(child.wait() for child in [given.run(data, number) for number in range(children)])


@checkpoint(runtime="isolated")
def large_isolated(size: int) -> bytes:
    return os.urandom(size)


@flow
def returning_isolated(size: int) -> float:
    """Milliseconds of a step in a process of its own that returns so many bytes."""
    began = time.perf_counter()
    large_isolated(size)
    return (time.perf_counter() - began) * 1000


@checkpoint
def work(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@flow
def working(seconds: float) -> float:
    return work(seconds)
