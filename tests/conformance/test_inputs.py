"""Large parts of what executions were given are files, which all that were given the same share."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitaru_registry.database.opening import Database
from kitaru_registry.database.tables import executions
from kitaru_registry.errors import KitaruBackendError, KitaruNotFoundError
from kitaru_registry.executions import creating, inputs, queue, reading, retention
from kitaru_registry.executions.ids import new_execution_id
from kitaru_registry.executions.values import values_of
from kitaru_registry.models import ExecutionId
from kitaru_runner.values import codec
from kitaru_runner.values.tagged import tag

LARGE = b"\x00\xff" * 20_000


def execution(database: Database, value: dict[str, Any]) -> ExecutionId:
    encoded = codec.encode(value)
    new = creating.NewExecution(
        new_execution_id(), "default", "f", "source", {name: f"<{name}>" for name in value},
        encoded.codec, encoded.data, "sha256:0", "ada",
    )  # fmt: skip
    return creating.create(database, new)[0]


def called_with(database: Database, exec_id: ExecutionId) -> Any:
    claim = queue.claim(database, queue.candidate(database, exec_id), queue.Owner("me:1", 1, "here"))
    assert claim is not None
    return codec.decode(codec.Encoded(claim.inputs_codec, inputs.load(database, claim)))


def files(database: Database) -> list[int]:
    return sorted(stored.size for stored in values_of(database).names())


def test_children_that_are_given_what_a_checkpoint_returned_share_its_file(database: Database) -> None:
    values_of(database).put(codec.encode(LARGE).data)

    given_to = [execution(database, {"data": LARGE, "n": number}) for number in range(4)]

    assert files(database) == [len(LARGE)]
    assert [called_with(database, each) for each in given_to] == [{"data": LARGE, "n": n} for n in range(4)]


@pytest.mark.parametrize(
    "value",
    [
        "é" * 20_000, "\ud800" * 20_000, LARGE, list(range(20_000)), {"a": [LARGE, "x"]}, [("t", 1)] * 5_000,
        {"$": "bytes", "v": "no bytes" * 5_000}, {1: "x" * 20_000},
    ],
    ids=["text", "surrogates", "bytes", "list", "nested", "tuples", "looks like a tag", "int keys"],
)  # fmt: skip
def test_what_a_flow_is_called_with_is_what_was_given(database: Database, value: Any) -> None:
    for given_inputs in ({"a": value, "b": 1}, {"*args": [1, value, 2], "c": value}):
        exec_id = execution(database, given_inputs)

        assert called_with(database, exec_id) == given_inputs


@given(value=st.dictionaries(st.text(), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
)))  # fmt: skip
def test_any_piece_is_put_back_as_it_was(value: dict[str, Any]) -> None:
    for name, node in value.items():
        tagged = tag(node)
        kind, data = inputs.piece_of(tagged, is_tagged=True)

        assert inputs.node_of(kind, data) == tagged, name


def test_large_parts_are_shown_by_their_size_in_lists_and_as_they_are_by_get(database: Database) -> None:
    exec_id = execution(database, {"text": "x" * 20_000, "n": 1})

    [listed] = reading.list_executions(database, project="default")

    assert listed.inputs["text"] == "<str, 20,000 bytes>"
    assert reading.get_execution(database, exec_id).inputs["text"] == "x" * 20_000


def test_a_deletion_takes_the_files_that_nobody_else_was_given(database: Database) -> None:
    first, second = (execution(database, {"data": LARGE, "own": own * 9_000}) for own in (b"one", b"two"))
    for exec_id in (first, second):
        queue.claim(database, queue.candidate(database, exec_id), queue.Owner("me:1", 1, "here"))
        with database.write() as connection:
            connection.execute(executions.update().where(executions.c.exec_id == exec_id).values(status="cancelled"))

    retention.erase(database, [first], actor="ada")
    assert files(database) == [27_000, len(LARGE)]

    retention.erase(database, [second], actor="ada")
    assert files(database) == []
    assert reading.get_execution(database, first).inputs == {}


def test_inputs_whose_file_is_gone_are_an_error_that_names_it(database: Database) -> None:
    exec_id = execution(database, {"data": LARGE})
    store = values_of(database)
    store.delete(lambda _: False, [stored.digest for stored in store.names()])

    with pytest.raises(KitaruBackendError, match="is not in"):
        called_with(database, exec_id)


def test_an_id_is_found_by_its_beginning_its_end_and_the_beginning_of_what_lists_show(database: Database) -> None:
    exec_id = execution(database, {})

    for given_id in (exec_id, exec_id[:20], exec_id[-8:], exec_id[-12:], exec_id[-3:], exec_id[-8:-3]):
        assert reading.find_id(database, given_id) == exec_id
    for other in ("", "nothing", f"{exec_id}0", exec_id[1:-1], exec_id[:-1] + "_", "%"):
        with pytest.raises(KitaruNotFoundError):
            reading.find_id(database, other)
