"""What is hard to describe fails an execution once, with a reason: it is no crash, and no other error's."""

from __future__ import annotations

from pathlib import Path

import odd_failures
import pytest
from attempts import TestExecution
from deployed_children import deployed

FLOWS = Path(odd_failures.__file__)

SHOWN = {
    "mute": ("Mute", "(no message: str() of it raises RuntimeError)"),
    "holds_itself": ("ValueError", "(no message: str() of it raises RecursionError)"),
    "causes": ("ValueError", "last"),
    "contexts": ("ValueError", "last"),
    "circle": ("ExceptionGroup", "circle (15 sub-exceptions)"),
    "many": ("ExceptionGroup", "many (3000 sub-exceptions)"),
    "deep": ("ValueError", "(no message: str() of it raises RecursionError)"),
    "odd_attributes": ("Odd", "odd"),
    "stops": ("Stop", "not an Exception"),
    "interrupts": ("KeyboardInterrupt", "by hand"),
    "exits": ("SystemExit", "3"),
    "surrogates": ("ValueError", "('r\\udce9sum\\udce9', '\\x00')"),
}


def test_every_kind_is_tried() -> None:
    assert SHOWN.keys() == odd_failures.KINDS.keys()


@pytest.mark.parametrize("kind", SHOWN)
def test_a_deployed_flow_fails_once_with_its_own_error(tmp_path: Path, kind: str) -> None:
    with deployed(FLOWS, "fail_in_body", tmp_path, {"kind": kind}) as execution:
        assert execution.attempt() == "failed"
        assert execution.failure == SHOWN[kind]


def test_an_isolated_try_fails_with_its_own_error(tmp_path: Path) -> None:
    kinds = [kind for kind in SHOWN if kind != "exits"]
    with deployed(FLOWS, "fail_isolated", tmp_path, {"kinds": kinds}) as execution:
        assert execution.attempt() == "completed"
        for said in execution.result:
            kind, _, found = said.partition(": ")
            # One that has no text cannot be rebuilt.
            assert found in (SHOWN[kind][0], "KitaruUserCodeError"), said
        errors = [call.error for call in execution.execution.checkpoints]
        assert [(error.type, error.message) for error in errors if error] == [SHOWN[kind] for kind in kinds]


def test_an_isolated_try_that_took_its_output_away_has_its_outcome(tmp_path: Path) -> None:
    with deployed(FLOWS, "outputs_closed", tmp_path) as execution:
        assert execution.attempt() == "completed"
        assert execution.result == ["done", "done"]


@pytest.mark.parametrize("kind", sorted(SHOWN.keys() - {"interrupts"}))
def test_a_flow_run_from_source_fails_once_with_its_own_error(execution: TestExecution, kind: str) -> None:
    def body() -> int:
        return odd_failures.fails(kind)

    error = execution.attempt(body).error

    assert error is not None
    assert (error.type, error.message) == SHOWN[kind]
