"""A flow that tells what it was told: a line `EVENT LABEL DETAIL` each, in the file that SOAK_TRACE names."""

import os
from hashlib import sha256
from typing import Any
from uuid import uuid4

from kitaru import checkpoint, flow, log, save, wait

LARGE = 3000


def tell(event: str, label: str, detail: str) -> None:
    trace = os.open(os.environ["SOAK_TRACE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(trace, f"{event} {label} {detail}\n".encode())
    os.close(trace)


def begin(label: str) -> None:
    log(label=label)
    tell("begin", label, uuid4().hex)


def got(label: str, value: Any) -> None:
    """The outcome has come to the flow: from here on it is recorded for ever."""
    tell("got", label, sha256(repr(value).encode()).hexdigest())


@checkpoint
def small(number: int) -> str:
    begin(f"small-{number}")
    return uuid4().hex


@checkpoint
def large(number: int) -> str:
    """Too large for a row."""
    begin(f"large-{number}")
    return uuid4().hex * LARGE


@checkpoint
def saving(number: int) -> str:
    begin(f"saving-{number}")
    save(f"kept-{number}", uuid4().hex)
    save(f"kept-large-{number}", uuid4().hex * LARGE)
    return uuid4().hex


@checkpoint
def failing(number: int) -> None:
    begin(f"failing-{number}")
    raise ConnectionError(uuid4().hex)


@flow
def careful(rounds: int) -> int:
    """In each round: a row, a file, artifacts, a failure, an answer, and three that end together."""
    for number in range(rounds):
        got(f"small-{number}", small(number))
        got(f"large-{number}", large(number))
        got(f"saving-{number}", saving(number))
        save(f"between-{number}", "y" * 20_000)
        try:
            failing(number)
        except ConnectionError as error:
            got(f"failing-{number}", str(error))
        if number % 2 == 1:
            wait(name="approve", schema=bool)
        several = [100 + 10 * number + one for one in range(3)]
        for one, future in zip(several, [small.submit(one) for one in several], strict=True):
            got(f"small-{one}", future.result())
    return rounds


if __name__ == "__main__":
    careful.run(1).wait()
