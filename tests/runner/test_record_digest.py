"""Under `record="digest"` a value is nowhere but in the flow: it is made again whenever it is needed."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest
from attempts import Executions, TestExecution

from kitaru import Backoff, checkpoint, log, save, wait
from kitaru_registry.executions import reading

MARKER = "a-secret-that-nobody-may-keep-0123456789"

ran: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


@checkpoint(record="digest")
def secret() -> str:
    ran["secret"] += 1
    return MARKER


@checkpoint(record="digest")
async def secret_later() -> str:
    ran["secret"] += 1
    await asyncio.sleep(0)
    return MARKER


@checkpoint
def use(value: object) -> int:
    ran["use"] += 1
    return len(str(value))


def files_with(execution: TestExecution, text: str) -> list[str]:
    """Every file of the home that holds the text."""
    found = [path for path in execution.database.home.root.rglob("*") if path.is_file()]
    assert any(path.name == "kitaru.db" for path in found)
    return [path.name for path in found if text.encode() in path.read_bytes()]


def test_its_bytes_are_nowhere_in_the_home(execution: TestExecution) -> None:
    def body() -> int:
        one = secret()
        return use(one) + use({"inside": one}) + use(secret.submit())

    execution.attempt(body)

    assert execution.status == "completed"
    assert files_with(execution, MARKER) == []
    assert files_with(execution, "submit[0]/secret"), "the search would find it"


@pytest.mark.parametrize("writes", range(4))
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_resume_makes_it_again_and_goes_on(execution: TestExecution, writes: int, asynchronous: bool) -> None:
    def body() -> int:
        return use(secret()) + use(2)

    async def on_loop() -> int:
        return use(await secret_later()) + use(2)

    chosen: Any = on_loop if asynchronous else body
    execution.attempt(chosen, writes=writes)
    made = ran["secret"]
    execution.attempt(chosen)

    assert execution.result == len(MARKER) + 1
    assert ran["secret"] == made + 1
    assert execution.keys == [execution.keys[0], "use", "use#2"]
    assert files_with(execution, MARKER) == []


def test_a_submitted_one_is_made_again_once_however_often_it_is_passed_on(execution: TestExecution) -> None:
    def body() -> list[int]:
        future = secret.submit()
        users = [use.submit(future), use.submit(future), use.submit(future)]
        numbers = [user.result() for user in users]
        wait(name="go")
        return [*numbers, use(future.result())]

    execution.attempt(body)
    execution.answer("go", None)
    execution.attempt(body)

    assert execution.result == [len(MARKER)] * 4
    assert ran["secret"] == 2


def test_what_it_calls_keeps_its_place_when_it_is_made_again(execution: TestExecution) -> None:
    @checkpoint
    def part(number: int) -> int:
        ran[f"part {number}"] += 1
        return number

    @checkpoint(record="digest")
    def whole() -> str:
        save("note", "kept")
        log(seen=True)
        return MARKER + str(part(1) + part.submit(2).result())

    def body() -> int:
        size = len(whole())
        wait(name="go")
        return size + part(3)

    execution.attempt(body)
    execution.answer("go", None)
    execution.attempt(body)

    assert execution.result == len(MARKER) + 1 + 3
    assert ran == {"part 1": 1, "part 2": 1, "part 3": 1}
    assert [row.kind for row in execution.rows].count("d") == 0


def test_another_value_than_before_is_a_recorded_warning(execution: TestExecution) -> None:
    @checkpoint(record="digest")
    def throw() -> float:
        return random.random()

    def body() -> int:
        throw()
        wait(name="go")
        return 1

    execution.attempt(body)
    execution.answer("go", None)
    execution.attempt(body)

    (warning,) = [row for row in execution.rows if row.kind == "d"]
    assert warning.key == "throw!value"
    assert "another value than the one whose digest is recorded" in (warning.metadata or "")


class Named(ValueError):
    def __init__(self, value: str) -> None:
        super().__init__(value)
        self.value = value


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_failure_keeps_its_type_and_place_alone(execution: TestExecution, asynchronous: bool) -> None:
    @checkpoint(record="digest", retries=1)
    def refuse() -> str:
        try:
            raise KeyError(MARKER)
        except KeyError as error:
            raise Named(f"not {MARKER}") from error

    @checkpoint(record="digest", retries=1)
    async def refuse_later() -> str:
        raise Named(f"not {MARKER}")

    async def on_loop() -> str:
        return await refuse_later()

    seen = []

    def body() -> str:
        try:
            return refuse()
        except Named as error:
            seen.append(str(error))
            raise

    execution.attempt(on_loop if asynchronous else body)

    error = execution.record.error
    assert error is not None
    assert (error.type, error.message) == ("Named", 'not kept, because of record="digest"')
    assert error.line is not None
    assert [row.kind for row in execution.rows] == ["t", "c"]
    assert files_with(execution, MARKER) == []
    assert seen == ([] if asynchronous else ['not kept, because of record="digest"'])


def test_a_value_that_no_codec_carries_is_not_described(execution: TestExecution) -> None:
    import threading

    class Odd:
        def __init__(self) -> None:
            self.lock = threading.Lock()

        def __reduce__(self) -> Any:
            raise TypeError(f"cannot pickle {MARKER}")

    @checkpoint(record="digest")
    def odd() -> Odd:
        return Odd()

    execution.attempt(odd)

    assert execution.status == "failed"
    assert files_with(execution, MARKER) == []


@pytest.mark.parametrize("asynchronous", [False, True])
def test_one_that_fails_when_it_is_made_again_is_tried_as_often_as_it_says(
    execution: TestExecution, asynchronous: bool
) -> None:
    def fetched() -> str:
        ran["fetch"] += 1
        if ran["fetch"] in (2, 3):
            raise ConnectionError(MARKER)
        return MARKER

    no_pause = Backoff(first=0.0)

    @checkpoint(record="digest", retries=2, backoff=no_pause)
    def fetch() -> str:
        return fetched()

    @checkpoint(record="digest", retries=2, backoff=no_pause)
    async def fetch_later() -> str:
        return fetched()

    def body() -> int:
        size = len(fetch())
        wait(name="go")
        return size

    async def on_loop() -> int:
        size = len(await fetch_later())
        await wait(name="go")
        return size

    chosen: Any = on_loop if asynchronous else body
    execution.attempt(chosen)
    execution.answer("go", None)
    execution.attempt(chosen)

    assert execution.result == len(MARKER)
    assert ran["fetch"] == 4
    assert files_with(execution, MARKER) == []


@checkpoint(record="digest", runtime="isolated")
def secret_elsewhere() -> str:
    return MARKER


@checkpoint(record="digest", runtime="isolated")
def refuse_elsewhere() -> str:
    raise ValueError(MARKER)


def test_a_process_of_its_own_leaves_nothing_either(execution: TestExecution) -> None:
    def body() -> int:
        size = use(secret_elsewhere())
        wait(name="go")
        refuse_elsewhere()
        return size

    execution.attempt(body)
    execution.answer("go", None)
    execution.attempt(body)

    error = execution.record.error
    assert error is not None
    assert (error.type, error.message) == ("ValueError", 'not kept, because of record="digest"')
    assert files_with(execution, MARKER) == []


def test_its_digest_is_shown(execution: TestExecution) -> None:
    from hashlib import sha256

    execution.attempt(lambda: use(secret()))

    call, other = reading.get_execution(execution.database, execution.record.exec_id).checkpoints
    assert call.output_digest == f"sha256:{sha256(MARKER.encode()).hexdigest()}"
    assert other.output_digest is None


def test_it_is_never_taken_from_another_execution(executions: Executions) -> None:
    @checkpoint(record="digest", cache=True)
    def cached() -> str:
        ran["cached"] += 1
        return MARKER

    for _ in range(2):
        executions.new().attempt(lambda: use(cached()))

    assert ran["cached"] == 2
