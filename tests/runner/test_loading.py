"""`load` within a flow gives what it gave in the first attempt, whatever becomes of the other execution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attempts import Executions, TestExecution

from kitaru import KitaruError, KitaruNotFoundError, checkpoint, load, save, wait
from kitaru_registry.errors import KitaruConflictError, KitaruStateError, KitaruUsageError
from kitaru_registry.executions import artifacts, retention
from kitaru_registry.home import Home
from kitaru_registry.journal.entries import Encoded, Loaded


@checkpoint
def count(number: int) -> int:
    return number


@pytest.fixture
def other(executions: Executions) -> TestExecution:
    made = executions.new()
    made.attempt(lambda: [save("report", "first"), *(count(n) for n in range(3))])
    return made


def test_a_replay_loads_what_the_first_attempt_loaded(executions: Executions, other: TestExecution) -> None:
    execution = executions.new()

    def body() -> Any:
        loaded = load(other.exec_id, "report")
        wait(name="go")
        return [loaded, load(other.exec_id, "report")]

    execution.attempt(body)
    retention.erase(other.database, [other.exec_id], actor="me")
    execution.answer("go", None)
    execution.attempt(body)

    record = execution.record
    assert record.error is not None
    assert "are gone: deleted by me" in record.error.message, "the second call is a new one"
    assert execution.keys[0] == "load:report"


def test_a_failure_to_load_is_recorded_too(executions: Executions, other: TestExecution) -> None:
    execution = executions.new()

    def body() -> str:
        try:
            load(other.exec_id, "nothing")
        except KitaruNotFoundError as error:
            wait(name="go")
            return error.message
        return "found"

    execution.attempt(body)
    with other.database.write() as connection:
        from kitaru_registry.database.tables import artifacts as table

        connection.execute(table.update().values(name="nothing"))
    execution.answer("go", None)
    execution.attempt(body)

    assert "has no artifact nothing" in execution.result


def test_a_retry_loads_anew_what_failed_the_flow(executions: Executions) -> None:
    from kitaru_registry.executions import ending

    other, execution = executions.new(), executions.new()
    execution.attempt(lambda: load(other.exec_id, "report"))
    assert execution.status == "failed"
    other.attempt(lambda: save("report", 7))

    ending.retry(execution.database, execution.exec_id, actor="me")
    execution.attempt(lambda: load(other.exec_id, "report"))

    assert execution.result == 7


def test_inside_a_checkpoint_a_load_is_part_of_its_outcome(executions: Executions, other: TestExecution) -> None:
    execution = executions.new()

    @checkpoint
    def copy() -> Any:
        return load(other.exec_id, "report")

    execution.attempt(copy)

    assert (execution.result, execution.keys) == ("first", ["copy"])


def test_a_large_value_is_loaded_and_not_stored_twice(executions: Executions) -> None:
    other, execution = executions.new(), executions.new()
    other.attempt(lambda: save("large", "x" * 100_000))

    def body() -> int:
        loaded = load(other.exec_id, "large")
        wait(name="go")
        return len(loaded)

    execution.attempt(body)
    execution.answer("go", None)
    execution.attempt(body)

    assert execution.result == 100_000
    assert len([path for path in (other.database.home.values).glob("*/*") if path.is_file()]) == 1


@pytest.mark.parametrize(("index", "value"), [(0, 0), (2, 2), (-1, 2), (-3, 0)])
def test_an_index_says_which_of_several(other: TestExecution, index: int, value: int) -> None:
    artifact, data = artifacts.pick(other.database, other.exec_id, "count", index=index)

    assert (artifact.codec, int(data)) == ("json", value)


def test_several_without_an_index_are_named(other: TestExecution) -> None:
    with pytest.raises(KitaruConflictError, match="3 artifacts that fit count: count, count#2, count#3") as raised:
        artifacts.pick(other.database, other.exec_id, "count")

    assert raised.value.hint is not None
    assert "index=0 to index=2" in raised.value.hint


@pytest.mark.parametrize("index", [3, -4])
def test_an_index_that_there_is_not_is_said(other: TestExecution, index: int) -> None:
    with pytest.raises(KitaruNotFoundError, match=f"none of index {index}"):
        artifacts.pick(other.database, other.exec_id, "count", index=index)


def test_what_there_is_is_named_where_nothing_fits(other: TestExecution) -> None:
    with pytest.raises(KitaruNotFoundError, match="has no artifact repot; it has: count, count#2, count#3, report"):
        artifacts.pick(other.database, other.exec_id, "repot")


def test_a_key_is_taken_before_a_name(executions: Executions) -> None:
    other = executions.new()
    other.attempt(lambda: [f.result() for f in count.map([4, 5])] and count(6, id="last"))

    for key, value in (("map[1]/count", 5), ("last", 6)):
        assert int(artifacts.pick(other.database, other.exec_id, key)[1]) == value


def test_an_outcome_that_a_retry_made_again_is_not_ambiguous(executions: Executions) -> None:
    from kitaru_registry.executions import ending

    execution, words = executions.new(), iter(["one", "two"])

    @checkpoint
    def note(text: str) -> str:
        save("noted", text)
        return text

    @checkpoint
    def fail(text: str) -> None:
        if text == "one":
            raise ValueError

    def body() -> None:
        word = next(words)
        try:
            fail("one")
        except ValueError:
            note(word)
            if word == "one":
                raise

    execution.attempt(body)
    ending.retry(execution.database, execution.exec_id, actor="me")
    execution.attempt(body)

    assert artifacts.pick(execution.database, execution.exec_id, "note")[1] == b"two"
    assert artifacts.pick(execution.database, execution.exec_id, "noted")[1] == b"two"


# Trust


class Strange:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 7


def loads_of_another_user(execution: TestExecution, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Home, "is_own", property(lambda self: False))


@pytest.mark.parametrize("inside", [False, True])
def test_a_pickle_of_another_user_is_read_on_trust_alone(
    executions: Executions, monkeypatch: pytest.MonkeyPatch, inside: bool
) -> None:
    other, execution, trusting = executions.new(), executions.new(), executions.new()
    other.attempt(lambda: save("strange", Strange()))
    loads_of_another_user(other, monkeypatch)

    def read(trust: bool) -> int:
        return int(load(other.exec_id, "strange", trust_pickle=trust).value)

    step = checkpoint(read) if inside else read
    execution.attempt(lambda: step(False))
    trusting.attempt(lambda: step(True))

    error = execution.record.error
    assert error is not None
    assert error.type == "KitaruUsageError"
    assert "is pickled, and another user's home holds it" in error.message
    assert error.hint == "if you trust whoever wrote it: trust_pickle=True"
    assert trusting.result == 7


def test_plain_data_of_another_user_needs_no_trust(
    executions: Executions, other: TestExecution, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads_of_another_user(other, monkeypatch)
    execution = executions.new()

    execution.attempt(lambda: load(other.exec_id, "report"))

    assert execution.result == "first"


def test_whether_a_home_is_one_s_own_is_its_folder_s_owner(tmp_path: Path) -> None:
    assert Home(tmp_path).is_own
    assert not Home(Path("/proc/1/nothing")).is_own
    assert isinstance(Loaded(Encoded("json", b"1"), "a", True), Loaded)


def test_a_value_that_was_not_kept_says_so(executions: Executions) -> None:
    other = executions.new()

    @checkpoint(record="digest")
    def secret() -> str:
        return "never kept"

    other.attempt(lambda: secret() and None)

    with pytest.raises(KitaruStateError, match="was not kept, only its digest"):
        artifacts.pick(other.database, other.exec_id, "secret")


@pytest.mark.parametrize(("name", "tags"), [("", []), (3, []), ("a", "draft"), ("a", [""])])
def test_a_save_without_a_name_or_with_odd_tags_is_refused(execution: TestExecution, name: Any, tags: Any) -> None:
    def body() -> str:
        try:
            save(name, 1, tags=tags)
        except KitaruUsageError as error:
            return error.message
        return "saved"

    execution.attempt(body)

    assert execution.result.startswith("save(")
    assert issubclass(KitaruUsageError, KitaruError)
