"""Checkpoints that count how often they execute, and a flow's body that is made of all of them."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from typing import Any

from kitaru import (
    checkpoint,
    log,
    save,
)

ran: Counter[str] = Counter()
"""How often each checkpoint's function was executed, by name and argument."""


@checkpoint
def double(number: int) -> int:
    ran[f"double {number}"] += 1
    return 2 * number


@checkpoint
def slow_double(number: int) -> int:
    time.sleep(random.random() / 100)
    ran[f"slow_double {number}"] += 1
    return 2 * number


@checkpoint
async def add(one: int, other: int) -> int:
    await asyncio.sleep(random.random() / 200)
    ran[f"add {one} {other}"] += 1
    return one + other


@checkpoint(retries=2)
def flaky(number: int) -> int:
    ran[f"flaky {number}"] += 1
    if ran[f"flaky {number}"] <= number:
        raise ConnectionError(f"attempt {ran[f'flaky {number}']} for {number}")
    return number


@checkpoint
def refuse(word: str) -> str:
    ran[f"refuse {word}"] += 1
    raise ValueError(f"not {word}")


def everything() -> dict[str, Any]:
    """A body that uses most of what there is."""
    log(stage="begun")
    total = sum(double(number) for number in range(3))
    mapped = [future.result() for future in slow_double.map(range(4))]
    try:
        refuse("that")
    except ValueError as error:
        refused = str(error)
    save("mapped", mapped)
    return {"total": total, "mapped": mapped, "refused": refused, "flaky": flaky(2), "last": double(total)}


RESULT = {"total": 6, "mapped": [0, 2, 4, 6], "refused": "not that", "flaky": 2, "last": 12}
