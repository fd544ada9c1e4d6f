"""Exceptions by which a checkpoint's body steers whoever called it, and which are no failures: they pass through.

Known by the names of their classes, so that no framework is imported here. A checkpoint adds its own by `passes=`.
"""

from __future__ import annotations

from collections.abc import Iterator

PASSED = "passed"
"""Marks, in the place of a failure, what is none."""

LIVE = frozenset({("langgraph", "GraphBubbleUp"), ("strands", "InterruptException"), ("workflows", "WaitingForEvent")})
"""Top package and name of classes whose exceptions mean something to the framework's run that raised them, and to no
other: an interrupt's id is another one in each. Nothing is recorded of such a call, so it executes again in a replay,
and raises what means something then."""

STEERING = frozenset(
    {
        ("pydantic_ai", name)
        for name in (
            "ApprovalRequired", "CallDeferred", "ModelRetry", "RetryModelRequest", "SkipModelRequest",
            "SkipToolExecution", "SkipToolValidation", "ToolFailed", "ToolFailedError", "ToolRetryError",
        )
    }
)  # fmt: skip
"""Of classes whose exceptions are what a call came to, as a value is: a replay raises them again."""


def is_live(error: BaseException) -> bool:
    """Whether the exception passes through, and nothing is to be recorded of it."""
    leaves = list(leaves_of(error))
    return all(is_named(leaf, LIVE | STEERING) for leaf in leaves) and any(is_named(leaf, LIVE) for leaf in leaves)


def steers(error: BaseException, own: tuple[type[BaseException], ...]) -> bool:
    """Whether the exception is an outcome which is neither a failure nor to be tried again.

    Args:
        own: classes that the checkpoint says so of.
    """
    return all(isinstance(leaf, own) or is_named(leaf, STEERING) for leaf in leaves_of(error))


def leaves_of(error: BaseException) -> Iterator[BaseException]:
    """The exception; of a group all that are in it."""
    left = [error]
    while left:
        found = left.pop()
        if isinstance(found, BaseExceptionGroup):
            left += found.exceptions
        else:
            yield found


def is_named(error: BaseException, names: frozenset[tuple[str, str]]) -> bool:
    return any((kind.__module__.partition(".")[0], kind.__name__) in names for kind in type(error).__mro__)
