"""A checkpoint sees its caller's context variables, and what it sets there stays its own: in both runs alike."""

from __future__ import annotations

import asyncio
import contextvars
import decimal

import pytest

from kitaru import checkpoint, flow, testing
from kitaru.flows import Flow

user = contextvars.ContextVar("user", default="nobody")


@checkpoint
def login() -> str:
    seen = user.get()
    user.set("ana")
    return seen


@checkpoint(timeout=30)
def login_in_time() -> str:
    return login.function()


@checkpoint
async def login_soon() -> str:
    seen = user.get()
    user.set("ana")
    await asyncio.sleep(0)
    assert user.get() == "ana"

    async def inner() -> str:
        return user.get()

    assert await asyncio.create_task(inner()) == "ana"
    return seen


@checkpoint(timeout=30)
async def login_soon_in_time() -> str:
    return await login_soon.function()


@checkpoint
async def fail_soon() -> None:
    user.set("ana")
    await asyncio.sleep(0)
    raise LookupError("nobody of that name")


@checkpoint
def precise() -> str:
    decimal.getcontext().prec = 5
    return str(decimal.Decimal(1) / 3)


@flow
def plain() -> tuple[str, str]:
    user.set("bo")
    return login(), user.get()


@flow
def in_time() -> tuple[str, str]:
    user.set("bo")
    return login_in_time(), user.get()


@flow
def submitted() -> tuple[str, str]:
    user.set("bo")
    return login.submit().result(), user.get()


@flow
async def awaited() -> tuple[str, str]:
    user.set("bo")
    return await login_soon(), user.get()


@flow
async def awaited_in_time() -> tuple[str, str]:
    user.set("bo")
    return await login_soon_in_time(), user.get()


@flow
async def plain_on_a_loop() -> tuple[str, str]:
    user.set("bo")
    return login(), user.get()


@pytest.mark.parametrize(
    "each", [plain, in_time, submitted, awaited, awaited_in_time, plain_on_a_loop], ids=lambda it: it.name
)
def test_what_is_set_in_a_checkpoint_stays_there(each: Flow[..., tuple[str, str]]) -> None:
    assert testing.run(each).result == ("bo", "bo")
    assert testing.run(each, crash_at=2).result == ("bo", "bo")


def test_also_in_one_that_fails_and_is_given_up() -> None:
    @flow
    async def body() -> list[str]:
        seen = []
        try:
            await fail_soon()
        except LookupError:
            seen.append(user.get())
        try:
            async with asyncio.timeout(0):
                await login_soon()
        except TimeoutError:
            seen.append(user.get())
        return seen

    assert testing.run(body).result == testing.run(body, crash_at=2).result == ["nobody", "nobody"]


def test_nor_does_a_precision_of_decimals_come_out() -> None:
    @flow
    def body() -> tuple[str, str]:
        decimal.setcontext(decimal.Context(prec=9))
        return precise(), str(decimal.Decimal(1) / 3)

    assert testing.run(body).result == ("0.33333", "0.333333333")
    assert testing.run(body, crash_at=2).result == ("0.33333", "0.333333333")
