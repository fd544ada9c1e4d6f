"""Typed inputs, answers and results, in a plain flow and in an `async def`."""

from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel, Field

from kitaru import checkpoint, flow, wait

Currency = Literal["EUR", "JPY"]


class Line(BaseModel):
    name: str
    count: int = Field(ge=1)


class Order(BaseModel):
    customer: str
    lines: list[Line]


class Decision(BaseModel):
    verdict: Literal["accept", "refuse"]
    deliver_at: datetime | None = None


class Receipt(BaseModel):
    customer: str
    pieces: int
    currency: Currency
    ordered_at: datetime
    deliver_at: datetime


@checkpoint
def count(order: Order) -> int:
    return sum(line.count for line in order.lines)


@checkpoint
async def count_slowly(order: Order) -> int:
    return sum(line.count for line in order.lines)


def receipt(order: Order, pieces: int, ordered_at: datetime, currency: Currency, decision: Decision) -> Receipt:
    deliver_at = decision.deliver_at or ordered_at + timedelta(days=1)
    return Receipt(
        customer=order.customer, pieces=pieces, currency=currency, ordered_at=ordered_at, deliver_at=deliver_at
    )


@flow
def purchase(order: Order, ordered_at: datetime, currency: Currency = "EUR") -> Receipt | None:
    pieces = count(order)
    decision = wait(name="decide", schema=Decision)
    return receipt(order, pieces, ordered_at, currency, decision) if decision.verdict == "accept" else None


@flow
async def purchase_async(order: Order, ordered_at: datetime, currency: Currency = "EUR") -> Receipt | None:
    pieces = await count_slowly(order)
    decision = await wait(name="decide", schema=Decision)
    return receipt(order, pieces, ordered_at, currency, decision) if decision.verdict == "accept" else None
