"""Answers that a test gives to waits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kitaru_registry.errors import KitaruUsageError, KitaruWaitValidationError
from kitaru_registry.journal.entries import WaitRequest
from kitaru_registry.names import nearest
from kitaru_registry.schemas import check_answer

Answers = Mapping[str, Any]


@dataclass
class Given:
    """Answers by a wait's key, or by its name; a function is called with what is asked (name, key, question, metadata).

    Raises:
        KitaruUsageError: it is no mapping.
    """

    answers: Answers
    asked: dict[str, None] = field(default_factory=dict)
    """The names and keys of what was asked, in any run, in order."""

    def __post_init__(self) -> None:
        if not isinstance(self.answers, Mapping):
            raise KitaruUsageError(
                f"answers={self.answers!r} are no answers by name", hint='write answers={"approve": True}'
            )

    def note(self, wait: WaitRequest) -> None:
        self.asked.update({wait.name: None, wait.key: None})

    def is_given(self, wait: WaitRequest) -> bool:
        return wait.key in self.answers or wait.name in self.answers

    def value(self, wait: WaitRequest) -> Any:
        """
        Raises:
            KitaruWaitValidationError: it does not fit what is asked.
        """
        said = wait.key if wait.key in self.answers else wait.name
        value = self.answers[said]
        if callable(value):
            value = value(wait)
        try:
            check_answer(None if wait.schema is None else dict(wait.schema), value)
        except KitaruWaitValidationError as error:
            raise KitaruWaitValidationError(f"the answer to {said}: {error.message}", hint=error.hint) from None
        return value

    def check_all_asked(self) -> None:
        """
        Raises:
            KitaruUsageError: there is one that nobody asked for.
        """
        for name in self.answers:
            if name not in self.asked:
                raise self._nobody_asks(name)

    def _nobody_asks(self, name: str) -> KitaruUsageError:
        near = nearest(name, self.asked)
        asked = ", ".join(self.asked) or "nothing"
        return KitaruUsageError(
            f"there is an answer to {name}, and the flow did not ask that; it asked {asked}",
            hint=f"did you mean {near}?" if near else "leave that answer out, or let the flow ask",
        )
