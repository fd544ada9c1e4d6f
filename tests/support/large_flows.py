"""Flows whose errors, texts and names are larger, or other, than a journal takes."""

from __future__ import annotations

import asyncio
from typing import Any

import kitaru
from kitaru import checkpoint, flow, wait

BAD_TEXT = "r\udce9sum\udce9.pdf"
"""As os.listdir gives a name that is no UTF-8."""

HUGE = 25_000_000
"""Three times of this, as message, traceback and argument, are above a frame's limit."""

LONG = 2_000_000


@checkpoint
def call(number: int, size: int = 50_000) -> int:
    raise ValueError("x" * size)


@flow
def many_errors(calls: int) -> int:
    failed = 0
    for number in range(calls):
        try:
            call(number)
        except ValueError:
            failed += 1
    wait(name="go", schema=bool)
    return failed


@flow
async def many_errors_at_once(calls: int) -> int:
    async def one(number: int) -> int:
        try:
            return await acall(number)
        except ValueError:
            return 1

    return sum(await asyncio.gather(*(one(number) for number in range(calls))))


@checkpoint
async def acall(number: int) -> int:
    raise ValueError("x" * 200_000)


class ApiError(Exception):
    def __init__(self, message: str, body: bytes, page: str) -> None:
        super().__init__(message, body)
        self.body = body
        self.page = page
        self.status = 502


@checkpoint
def huge_parts() -> int:
    raise ApiError("bad gateway", b"\0" * HUGE, "p" * HUGE)


@flow
def huge_errors() -> dict[str, Any]:
    try:
        call(1, HUGE)
    except ValueError as error:
        size = len(str(error))
    try:
        huge_parts()
    except ApiError as error:
        return {"size": size, "status": error.status, "has_body": hasattr(error, "body"), "page": len(error.page)}
    return {}


@flow
def huge_in_body() -> int:
    raise ValueError("y" * HUGE)


def refused_one_by_one() -> dict[str, str]:
    """What each call that is too large, or no UTF-8, is refused with."""
    calls = {
        "log": lambda: kitaru.log(text="y" * LONG),
        "log deep": lambda: kitaru.log(text=nested(100_000)),
        "save name": lambda: kitaru.save("n" * LONG, 1),
        "save bad name": lambda: kitaru.save(BAD_TEXT, 1),
        "save bad tag": lambda: kitaru.save("name", 1, tags=[BAD_TEXT]),
        "load id": lambda: kitaru.load(BAD_TEXT, "name"),
        "load name": lambda: kitaru.load("id", BAD_TEXT),
        "load number": lambda: kitaru.load("id", 5),
    }  # type: dict[str, Any]
    return {name: refusal(made) for name, made in calls.items()}


def refusal(made: Any) -> str:
    try:
        made()
    except kitaru.KitaruUsageError as error:
        return str(error)[:200]
    return "not refused"


def nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


@checkpoint
def asks_too_much() -> dict[str, str]:
    return refused_one_by_one()


@checkpoint(runtime="isolated")
def asks_too_much_isolated() -> dict[str, str]:
    return refused_one_by_one()


@checkpoint
def plain(number: int) -> int:
    return number


@flow
def all_refused() -> list[dict[str, str]]:
    body = refused_one_by_one()
    for name, made in {
        "id": lambda: plain(1, id=BAD_TEXT),
        "long id": lambda: plain(1, id="i" * LONG),
        "question": lambda: wait(name="w", question="q" * LONG),
        "bad question": lambda: wait(name="w", question=BAD_TEXT),
        "wait name": lambda: wait(name="w" * LONG),
        "metadata": lambda: wait(name="w", metadata={"k": "m" * LONG}),
        "deep metadata": lambda: wait(name="w", metadata={"k": nested(100_000)}),
    }.items():
        body[name] = refusal(made)
    return [body, asks_too_much(), asks_too_much_isolated(), {"plain": str(plain(7))}]


@checkpoint
def logs_much() -> int:
    for number in range(100):
        kitaru.log(**{f"entry{number}": "l" * 1_000_000})
    return 1


@checkpoint
def saves_many() -> int:
    for number in range(9_000):
        kitaru.save("\u00e9" * 4_000 + str(number), number)
    return 1


@checkpoint(runtime="isolated")
def saves_many_isolated() -> int:
    return int(saves_many.function())


@checkpoint(runtime="isolated")
def isolated_call(size: int) -> int:
    raise ValueError("x" * size)


@checkpoint
async def asaves_many() -> int:
    return int(saves_many.function())


def kind_of(made: Any, *args: Any) -> str:
    try:
        made(*args)
    except Exception as error:
        return type(error).__name__
    return "done"


@flow
def too_much_in_one() -> list[str]:
    found = [kind_of(logs_much), kind_of(saves_many), kind_of(saves_many_isolated), kind_of(isolated_call, HUGE)]
    found.append(kind_of(saves_many.submit().result))
    return [*found, str(plain(7))]


@flow
async def too_much_beside() -> list[str]:
    """With others in the same commit."""
    made = [asaves_many(), *(aplain(number) for number in range(3))]
    return [type(one).__name__ for one in await asyncio.gather(*made, return_exceptions=True)]


@checkpoint
async def aplain(number: int) -> int:
    return number
