"""Flows that start flows. `family` plays one scene; each scene is a flow of the same file."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

from kitaru import FlowHandle, KitaruError, checkpoint, flow, wait


@checkpoint
def square(number: int) -> int:
    return number * number


@checkpoint
def shaky(folder: str) -> int:
    tries = Path(folder, "tries")
    with tries.open("a") as file:
        file.write("x")
    if tries.stat().st_size < 3:
        raise ConnectionError("not yet")
    return tries.stat().st_size


@checkpoint
def stand_still(folder: str) -> None:
    """With a process of its own beside it."""
    beside = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(folder, "processes").write_text(f"{os.getpid()} {beside.pid}")
    time.sleep(600)


@checkpoint
async def stand_still_async(folder: str) -> None:
    Path(folder, "processes").write_text(f"{os.getpid()}")
    await asyncio.sleep(600)


@flow
def room(number: int) -> int:
    return square(number)


@flow
def fan(folder: str) -> list[int]:
    rooms = [room.run(number) for number in range(5)]
    return [entered.wait() for entered in rooms]


@flow
async def fan_async(folder: str) -> list[int]:
    return list(await asyncio.gather(*(room.run(number).wait() for number in range(5))))


@flow
def deep(folder: str, levels: int = 3) -> int:
    return square(levels) + (deep.run(folder, levels - 1).wait() if levels else 0)


@flow(retries=2)
def stubborn(folder: str) -> int:
    return shaky(folder)


@flow(finish_timeout=0.3)
def late(folder: str) -> bool:
    return bool(wait(name="never", schema=bool))


@flow
def busy(folder: str) -> None:
    square(2)
    stand_still(folder)


@flow
async def busy_async(folder: str) -> None:
    try:
        await stand_still_async(folder)
    finally:
        Path(folder, "cleaned up").touch()


@flow
async def deaf(folder: str) -> None:
    square(2)
    while True:
        try:
            await stand_still_async(folder)
        except BaseException:
            await asyncio.sleep(0.01)


@flow
def unlucky(folder: str) -> None:
    raise LookupError("no luck")


@flow
def catches(folder: str) -> str:
    try:
        unlucky.run(folder).wait()
    except KitaruError as error:
        return f"{type(error).__name__} because of {error.__cause__!r}"
    return "nothing"


@flow
def asks(folder: str) -> bool:
    return bool(wait(name="approve", schema=bool))


@flow
def invokes(folder: str) -> object:
    return family.invoke(scene="catches", folder=folder).wait()


@flow
def typed(folder: str, pair: tuple[int, str] = (1, "a"), names: frozenset[str] = frozenset()) -> object:
    if not names:
        return typed.run(folder, (2, "b"), names=frozenset({"x"})).wait()
    return [type(pair).__name__, type(names).__name__, list(pair)]


@flow
def hidden(folder: str) -> str:
    @flow
    def inner() -> None:
        pass

    try:
        inner.run()
    except KitaruError as error:
        return str(error)
    return "started"


SCENES = {
    scene.name: scene
    for scene in (fan, fan_async, deep, stubborn, late, busy, busy_async, deaf, catches, asks, invokes, typed, hidden)
}


@flow(retries=0)
def family(scene: str, folder: str) -> object:
    handle: FlowHandle = SCENES[scene].run(folder)
    return handle.wait()
