"""What `@checkpoint(...)` says, and what follows from it: when a failed try is tried again, and how soon."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple
from zlib import crc32

from kitaru_registry.errors import KitaruTimeoutError, KitaruUsageError
from kitaru_registry.names import told

YEAR = 366 * 86_400.0

HELD_PAUSE_SECONDS = 5.0
"""A pause between tries that is longer is a durable timer, and lets the execution park."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses between tries, in seconds: `first`, then each `factor` times the one before, at most `longest`.

    `jitter` is the share by which a pause may be longer or shorter. It follows from the call's key, so that it is the
    same when the execution is resumed.
    """

    first: float = 1.0
    factor: float = 2.0
    longest: float = 3600.0
    jitter: float = 0.1

    def __post_init__(self) -> None:
        for name, least, most in (("first", 0, YEAR), ("factor", 1, 1e9), ("longest", 0, YEAR), ("jitter", 0, 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
                raise KitaruUsageError(
                    f"Backoff({name}={told(value)}) is no pause", hint=f"give a number from {least} to {most:g}"
                )

    def pause_us(self, failed_tries: int, *, salt: str) -> int:
        """Microseconds to leave after so many failed tries."""
        if self.first <= 0:
            return 0
        # The exponent is bounded: a float overflows long after any pause has reached `longest`.
        pause = min(self.first * self.factor ** min(failed_tries - 1, 64), self.longest)
        share = crc32(f"{salt}/{failed_tries}".encode()) / 0xFFFFFFFF * 2 - 1
        return int(pause * (1 + self.jitter * share) * 1_000_000)


NO_BACKOFF = Backoff(first=0.0)

Kinds = tuple[type[BaseException], ...]

RetryOn = Kinds | Callable[[BaseException], bool] | None


@dataclass(frozen=True, slots=True)
class CheckpointSpec:
    name: str
    retries: int
    type: str | None
    bind: Callable[..., Mapping[str, object]]
    """Arguments by name, for their digest; without those that are to be ignored."""
    backoff: Backoff = NO_BACKOFF
    retry_on: RetryOn = None
    timeout_seconds: float | None = None
    cache: bool = False
    isolated: bool = False
    max_concurrency: int | None = None
    replay: Literal["allowed", "never"] = "allowed"
    record: Literal["value", "digest"] = "value"
    passes: Kinds = ()
    """Exceptions that are outcomes, and no failures, beside those that passing.py knows."""
    identity: str = ""
    """Module and qualified name of the function."""
    function: Callable[..., Any] | None = None
    """What was decorated, for cache keys."""

    def retries_after(self, error: BaseException, number: int) -> bool:
        """Whether try `number`, which failed so, is followed by another."""
        if number > self.retries:
            return False
        if self.retry_on is None:
            return True
        return isinstance(error, self.retry_on) if isinstance(self.retry_on, tuple) else bool(self.retry_on(error))


def is_coroutine_function(function: Any) -> bool:
    """Whether a call is to be awaited; also of an object whose class has an asynchronous `__call__`."""
    called = getattr(function, "__call__", None)  # noqa: B004  # as it is, not whether
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)


def timed_out(spec: CheckpointSpec, key: str) -> KitaruTimeoutError:
    return KitaruTimeoutError(
        f"checkpoint {key} took longer than its timeout of {spec.timeout_seconds:g} s",
        hint=f"give it longer: @checkpoint(timeout=...) above {spec.name}",
    )


class Work(NamedTuple):
    """One call of a checkpoint: what is to be executed."""

    spec: CheckpointSpec
    function: Callable[..., Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]

    def arguments(self) -> Mapping[str, object]:
        """By name; without those that are to be ignored."""
        return self.spec.bind(*self.args, **self.kwargs)


def run_work(work: Work) -> Any:
    return work.function(*work.args, **work.kwargs)
