"""That an attempt was halted: whoever stands or executes hears, and every later call raises why."""

from __future__ import annotations

from collections.abc import Callable


class Halting:
    def __init__(self) -> None:
        self.error: BaseException | None = None
        """Why; None while it goes on."""
        self._hear: list[Callable[[BaseException], object]] = []

    def hear(self, tell: Callable[[BaseException], object]) -> None:
        """Let that be told, in the order in which it was asked for; at once where the attempt was halted before."""
        self._hear.append(tell)
        if self.error is not None:
            tell(self.error)

    def halt(self, error: BaseException) -> None:
        """Let every later call, and everyone who stands at a wait, raise this."""
        self.error = error
        for tell in self._hear:
            tell(error)

    def check(self) -> None:
        if self.error is not None:
            raise self.error
