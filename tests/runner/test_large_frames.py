"""What is larger than a frame, or no UTF-8, ends in one error where it was said; no execution stands still."""

from __future__ import annotations

from pathlib import Path

import large_flows
from deployed_children import deployed

FLOWS = Path(large_flows.__file__)


def test_recorded_errors_above_a_frame_together_are_sent_in_pieces(tmp_path: Path) -> None:
    with deployed(FLOWS, "many_errors", tmp_path, {"calls": 480}) as execution:
        assert execution.attempt() == "waiting"
        execution.answer("go", True)

        assert execution.attempt() == "completed"
        assert execution.result == 480


def test_errors_of_one_turn_of_a_loop_above_a_record_together_are_recorded(tmp_path: Path) -> None:
    with deployed(FLOWS, "many_errors_at_once", tmp_path, {"calls": 300}) as execution:
        assert execution.attempt() == "completed"
        assert execution.result == 300


def test_a_huge_error_is_cut_and_says_so(tmp_path: Path) -> None:
    with deployed(FLOWS, "huge_errors", tmp_path) as execution:
        assert execution.attempt() == "completed"
        assert execution.result == {"size": 65_578, "status": 502, "has_body": False, "page": 65_578}
        first, second = (call.error for call in execution.execution.checkpoints)
        assert first is not None
        assert first.message.endswith("... (cut: 65,536 of 25,000,000 characters)")
        assert second is not None
        assert second.traceback is not None
        assert "(not kept, because of its size: args[1], body)" in second.traceback


def test_a_huge_error_of_the_flow_itself_fails_it_once(tmp_path: Path) -> None:
    with deployed(FLOWS, "huge_in_body", tmp_path) as execution:
        assert execution.attempt() == "failed"
        kind, message = execution.failure
        assert kind == "ValueError"
        assert message.endswith("... (cut: 65,536 of 25,000,000 characters)")


def without_where(refused: dict[str, str]) -> dict[str, str]:
    """Where Python gave up with what is too deep is not always the same."""
    return {name: said.partition(" while ")[0] for name, said in refused.items()}


def test_what_is_too_large_or_no_text_is_refused_by_name_at_the_call(tmp_path: Path) -> None:
    with deployed(FLOWS, "all_refused", tmp_path) as execution:
        assert execution.attempt() == "completed"
        body, inline, isolated, after = map(without_where, execution.result)

    assert body == {
        "log": "log(text=...) has 2,000,002 bytes; 1,048,576 is the most",
        "log deep": "log(text=...) cannot be kept: maximum recursion depth exceeded",
        "save name": "save(name) has 2,000,000 characters; 4,096 is the most",
        "save bad name": r"save(name) is no UTF-8, or has a NUL in it: 'r\udce9sum\udce9.pdf'",
        "save bad tag": r"save(tags) is no UTF-8, or has a NUL in it: 'r\udce9sum\udce9.pdf'",
        "load id": r"load(exec_id) is no UTF-8, or has a NUL in it: 'r\udce9sum\udce9.pdf'",
        "load name": r"load(name) is no UTF-8, or has a NUL in it: 'r\udce9sum\udce9.pdf'",
        "load number": "load(name) is of type int",
        "id": r"id= is no UTF-8, or has a NUL in it: 'r\udce9sum\udce9.pdf'",
        "long id": "id= has 2,000,000 characters; 4,096 is the most",
        "question": "question= of a wait has 2,000,000 characters; 1,048,576 is the most",
        "bad question": r"question= of a wait is no UTF-8, or has a NUL in it: 'r\udce9sum\udce9.pdf'",
        "wait name": "name= of a wait has 2,000,000 characters; 4,096 is the most",
        "metadata": "metadata= of a wait cannot be shown: it has 2,000,009 bytes; 1,048,576 is the most",
        "deep metadata": "metadata= of a wait cannot be shown: maximum recursion depth exceeded",
    }
    assert inline == {name: body[name] for name in inline}
    assert isolated == inline
    assert after == {"plain": "7"}


def test_what_is_too_large_together_fails_its_checkpoint_alone(tmp_path: Path) -> None:
    with deployed(FLOWS, "too_much_in_one", tmp_path) as execution:
        assert execution.attempt() == "completed"
        assert execution.result == [*["KitaruUsageError"] * 3, "ValueError", "KitaruUsageError", "7"]


def test_what_is_too_large_costs_those_that_are_recorded_with_it_nothing(tmp_path: Path) -> None:
    with deployed(FLOWS, "too_much_beside", tmp_path) as execution:
        assert execution.attempt() == "completed"
        assert execution.result == ["KitaruUsageError", "int", "int", "int"]
