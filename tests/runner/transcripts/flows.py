"""The flows that transcripts were recorded of. A gate is a file that the recording makes when it is time."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from kitaru import (
    KitaruNotFoundError,
    checkpoint,
    current_execution_id,
    flow,
    load,
    log,
    now,
    save,
    uuid4,
    wait,
)

tries = 0


@checkpoint(type="tool_call")
def research(topic: str) -> dict[str, Any]:
    log(tokens=12)
    save("sources", (topic, "ü"), type="context", tags=["web"])
    return {"topic": topic, "found": [1, 2.5, None]}


@checkpoint(retries=2)
def flaky() -> str:
    global tries
    tries += 1
    if tries < 3:
        raise ConnectionError(f"try {tries}")
    return "at last"


@checkpoint
def refuse(topic: str) -> None:
    raise LookupError(f"nothing about {topic}")


@checkpoint
def large() -> str:
    return "0123456789" * 9000


@checkpoint
def at_gate(name: str) -> str:
    while not Path(name).exists():
        time.sleep(0.005)
    return name


@checkpoint
async def fetch(page: int) -> int:
    await asyncio.sleep(0)
    return page * 10


@flow
def review(topic: str) -> str:
    """Most of what there is, with a wait in the middle."""
    log(stage="begun")
    research(topic)
    found = [future.result() for future in research.map(["one", "two"])]
    try:
        refuse(topic)
    except LookupError as error:
        found.append({"refused": str(error)})
    flaky()
    text = large()
    save("found", found)
    if not wait(name="approve", question="Publish?", schema=bool, metadata={"length": len(text)}):
        return "Rejected"
    try:
        load(str(current_execution_id()), "nothing of that name")
    except KitaruNotFoundError:
        log(missing=True)
    return f"{topic}: {len(load(str(current_execution_id()), 'found'))} of {len(text)}"


@flow
def meanwhile() -> list[Any]:
    """Its answer comes while a checkpoint is in flight."""
    future = at_gate.submit("go")
    return [wait(name="page", schema=int), future.result()]


@flow
async def branches(pages: int) -> list[int]:
    """Five branches of two steps, whose outcomes share commits; one of them asks."""

    async def branch(page: int) -> int:
        return await fetch(await fetch(page))

    async def ask() -> int:
        answer: int = await wait(name="extra", schema=int)
        return answer

    return list(await asyncio.gather(*(branch(page) for page in range(pages)), ask()))


@flow
def failing(topic: str) -> None:
    research(topic)
    refuse(topic)


@flow
def taken_over() -> str:
    """Another attempt takes it over while it runs."""
    research("first")
    return at_gate("go")


@flow
def breaking() -> Any:
    """Its result has no codec."""
    return (number for number in range(3))


@checkpoint(cache=True, record="digest")
def unkept(number: int) -> int:
    return number + 1


@checkpoint(cache=True, replay="never")
def guarded(number: int) -> int:
    return number * 2


@flow
def noted() -> bool:
    """Values that are noted, one of which only the digest is kept, and one that a cache could have had."""
    moment, name = now(), uuid4()
    return bool(unkept(1) and guarded(unkept(2)) and moment and name)


@flow
def part(number: int) -> int:
    return number * 2


@flow
async def family() -> int:
    """A child flow of its own, that a second attempt attends to while it goes on, and that gives a value."""

    async def ask() -> int:
        answer: int = await wait(name="extra", schema=int)
        return answer

    return sum(await asyncio.gather(part.run(number=3), ask()))


@checkpoint
async def linger() -> None:
    await asyncio.sleep(60)


@flow
async def cancelled() -> None:
    """It is cancelled while a checkpoint is under way, and cleans up."""
    try:
        await linger()
    finally:
        print("cleaned up")


@flow
def only_recorded() -> int:
    """In a replay that may use only what is recorded, of which there is nothing."""
    return research("agents")["found"][0]
