"""Flows that do, in an order that a seed chooses, whatever leaves processes, threads or much data about.

In the file that SOAK_TRACE names they tell, a line each, `begin EXECUTION LABEL NONCE` of every try, and
`got EXECUTION LABEL DIGEST` once the outcome has come to the flow. The nonce goes into the journal with the outcome.
"""

import asyncio
import os
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from contextvars import copy_context
from hashlib import sha256
from multiprocessing import get_context
from random import Random
from typing import Any
from uuid import uuid4

import kitaru
from kitaru import checkpoint, current_execution_id, flow, load, log, save, wait

WORK_SECONDS = 0.05
LEFT_SECONDS = 2
"""How long what a flow leaves behind lives."""

MEGABYTES = (1, 4, 20)
TRIES = 50
"""A worker that is killed costs a try, as a failure of the user's code does."""

kept_pool: Any = None


def tell(event: str, label: str, detail: str) -> None:
    trace = os.open(os.environ["SOAK_TRACE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(trace, f"{event} {current_execution_id()} {label} {detail}\n".encode())
    os.close(trace)


def begin(label: str) -> None:
    nonce = uuid4().hex
    log(label=label, nonce=nonce)
    tell("begin", label, nonce)
    time.sleep(WORK_SECONDS)


def digest(value: Any) -> str:
    return sha256(value if isinstance(value, bytes) else repr(value).encode()).hexdigest()[:16]


def got(label: str, value: Any) -> dict[str, str]:
    """The outcome has come to the flow: from here on it is recorded for ever."""
    tell("got", label, digest(value))
    return {label: digest(value)}


def square(number: int) -> int:
    time.sleep(WORK_SECONDS)
    return number * number


def squares(label: str) -> list[int]:
    """What all kinds of pools compute: five numbers of the label's own."""
    return [number * number for number in numbers(label)]


def numbers(label: str) -> list[int]:
    chance = Random(label)
    return [chance.randrange(1000) for _ in range(5)]


@checkpoint
def small(label: str) -> list[int]:
    begin(label)
    return squares(label)


@checkpoint
def large(label: str) -> bytes:
    begin(label)
    return content(label)


def content(label: str) -> bytes:
    chance = Random(label)
    return chance.randbytes(chance.choice(MEGABYTES) * 1_000_000)


@checkpoint
def saving(label: str) -> list[int]:
    begin(label)
    save(label, content(label))
    save(f"{label}-squares", squares(label))
    return squares(label)


@checkpoint(retries=TRIES)
def with_pool(label: str) -> list[int]:
    begin(label)
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        return list(pool.map(square, numbers(label)))


@checkpoint(retries=TRIES)
def with_kept_pool(label: str) -> list[int]:
    """One for all calls, which nobody shuts down."""
    begin(label)
    return kept_squares(label)


def kept_squares(label: str) -> list[int]:
    global kept_pool
    kept_pool = kept_pool or ProcessPoolExecutor(2, mp_context=get_context("fork"))
    try:
        return list(kept_pool.map(square, numbers(label)))
    except BrokenExecutor:
        kept_pool = None
        raise


@checkpoint(retries=TRIES)
def with_spawned(label: str) -> list[int]:
    begin(label)
    with get_context("spawn").Pool(1) as pool:
        return pool.map(square, numbers(label))


@checkpoint
def leave_daemon(label: str) -> list[int]:
    """In a session of its own, and in that of the flow."""
    begin(label)
    subprocess.Popen(["setsid", "sleep", str(LEFT_SECONDS)], close_fds=False)
    subprocess.Popen(["sleep", str(LEFT_SECONDS)], start_new_session=True)
    os.system(f"sleep {LEFT_SECONDS} &")
    return squares(label)


@checkpoint(runtime="isolated", retries=TRIES)
def isolated(label: str) -> list[int]:
    begin(label)
    return squares(label)


@checkpoint(runtime="isolated", retries=TRIES)
def isolated_large(label: str) -> bytes:
    begin(label)
    os.system(f"sleep {LEFT_SECONDS} &")
    return content(label)


def in_threads(label: str) -> dict[str, str]:
    labels = [f"{label}-{number}" for number in range(3)]
    with ThreadPoolExecutor(3) as threads:
        calls = [threads.submit(copy_context().run, small, one, id=one) for one in labels]
        found = [call.result() for call in calls]
    return {name: value for one, value in zip(labels, found, strict=True) for name, value in got(one, value).items()}


def submitted(label: str) -> dict[str, str]:
    futures = {f"{label}-small": small.submit(f"{label}-small"), f"{label}-pool": with_pool.submit(f"{label}-pool")}
    return {name: value for one, future in futures.items() for name, value in got(one, future.result()).items()}


def mapped(label: str) -> dict[str, str]:
    labels = [f"{label}-{number}" for number in range(4)]
    found = [future.result() for future in small.map(labels, max_concurrency=2)]
    return {name: value for one, value in zip(labels, found, strict=True) for name, value in got(one, value).items()}


def in_body(label: str) -> dict[str, str]:
    """A pool of the flow's body, and an artifact, beside checkpoints."""
    while True:
        try:
            found = kept_squares(label)
            break
        except BrokenExecutor:
            continue
    save(label, found)
    return got(f"{label}-saved", load(current_execution_id(), label))


def asked(label: str) -> dict[str, str]:
    return got(f"{label}-answer", wait(name=label, schema=int))


def slept(label: str) -> dict[str, str]:
    kitaru.sleep(0.2)
    return got(f"{label}-over", squares(label))


def of_child(label: str) -> dict[str, str]:
    found: dict[str, str] = gale.run(label).wait()
    return found


@checkpoint
async def awaited(label: str) -> list[int]:
    begin(label)
    await asyncio.sleep(WORK_SECONDS)
    return squares(label)


@flow
async def gale(label: str) -> dict[str, str]:
    """A child execution: threads and tasks of a loop."""
    labels = [f"{label}-{number}" for number in range(4)]
    found = await asyncio.gather(
        asyncio.to_thread(small, labels[0]), awaited(labels[1]), awaited(labels[2]), asyncio.to_thread(large, labels[3])
    )
    told = {}
    for one, value in zip(labels, found, strict=True):
        told |= got(one, value)
    kitaru.sleep(0.1)
    return told | got(f"{label}-4", await awaited(f"{label}-4"))


def one_call(call: Callable[[str], Any]) -> Callable[[str], dict[str, str]]:
    return lambda label: got(label, call(label))


STEPS: dict[str, Callable[[str], dict[str, str]]] = {
    **{
        call.__name__: one_call(call)
        for call in (
            small, large, saving, with_pool, with_kept_pool, with_spawned, leave_daemon, isolated, isolated_large,
        )
    },
    **{step.__name__: step for step in (in_threads, submitted, mapped, in_body, asked, slept, of_child)},
}  # fmt: skip


def course(seed: int) -> list[str]:
    steps = sorted(STEPS)
    Random(seed).shuffle(steps)
    return steps


@flow
def storm(seed: int) -> dict[str, str]:
    found: dict[str, str] = {}
    for step in course(seed):
        found |= STEPS[step](f"{seed}-{step}")
    return found


def answer_to(name: str) -> int:
    return Random(name).randrange(1000)


def expected(seed: int) -> dict[str, str]:
    """What `storm` gives where nothing is killed, by label."""
    found: dict[str, str] = {}
    for step in course(seed):
        found |= expected_of(step, f"{seed}-{step}")
    return found


def expected_of(step: str, label: str) -> dict[str, str]:
    def computed(*suffixes: str) -> dict[str, str]:
        return {label + suffix: digest(squares(label + suffix)) for suffix in suffixes}

    match step:
        case "large" | "isolated_large":
            return {label: digest(content(label))}
        case "in_threads":
            return computed("-0", "-1", "-2")
        case "mapped":
            return computed("-0", "-1", "-2", "-3")
        case "submitted":
            return computed("-small", "-pool")
        case "in_body":
            return {f"{label}-saved": digest(squares(label))}
        case "slept":
            return {f"{label}-over": digest(squares(label))}
        case "asked":
            return {f"{label}-answer": digest(answer_to(label))}
        case "of_child":
            return computed("-0", "-1", "-2", "-4") | {f"{label}-3": digest(content(f"{label}-3"))}
    return computed("")


NOT_CHECKPOINTS = ("-saved", "-over", "-answer")
"""Labels of what came of something else."""
