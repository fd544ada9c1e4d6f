"""pandas values and registered types come back equal, and nobody needs a pickle for them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from attempts import TestExecution

from kitaru import KitaruUsageError, checkpoint, register_codec, save
from kitaru_registry.journal.display import as_json
from kitaru_registry.journal.entries import Encoded
from kitaru_runner.engine.body.body import run_body
from kitaru_runner.values import codec
from kitaru_runner.values import pandas_values as frames
from kitaru_runner.values import registered as custom
from kitaru_runner.values.arguments import digest_inputs, is_opaque
from kitaru_runner.values.pickles import PICKLE

HOURS = pd.date_range("2024-03-31", periods=3, freq="h", tz="Europe/Berlin")

CARRIED = {
    "plain": pd.DataFrame({"a": [1, 2], "b": [1.5, np.nan], "c": ["x", None]}),
    "empty": pd.DataFrame(),
    "no rows": pd.DataFrame({"a": pd.Series([], dtype="int64")}),
    "no columns": pd.DataFrame(index=[1, 2, 3]),
    "two columns of one name": pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]),
    "rows of levels": pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([("x", 1)], names=["k", None])),
    "columns of levels": pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_product([["a"], ["b", "c"]])),
    "days": pd.DataFrame({"v": [1, 2]}, index=pd.date_range("2024-01-01", periods=2, freq="D")),
    "zoned": pd.Series(HOURS),
    "zoned index": pd.DataFrame({"v": [1, 2, 3]}, index=HOURS),
    "utc": pd.Series(pd.date_range("2024-03-31", periods=2, tz="UTC")),
    "spans": pd.Series(pd.to_timedelta([1, 2], unit="s")),
    "categories": pd.Series(["a", "b", "a"], dtype="category"),
    "ordered categories": pd.Series(pd.Categorical([1, None, 3], categories=[3, 1], ordered=True)),
    "nullable": pd.Series([1, None], dtype="Int64"),
    "nullable truth": pd.Series([True, None], dtype="boolean"),
    "nullable texts": pd.Series(["a", None], dtype="string"),
    "small numbers": pd.Series([1, 2], dtype="uint8"),
    "complex": pd.Series([1j]),
    "objects": pd.Series([1, True, "a", Decimal("1.0"), (1, 2), date(2024, 1, 1), None], dtype=object),
    "name": pd.Series([1], name=("a", 1)),
    "index": pd.Index(["a", "b"], name="n"),
    "range": pd.RangeIndex(0, 9, 3, name="n"),
}
NOT_CARRIED = {
    "periods": pd.Series(pd.period_range("2024", periods=2, freq="M")),
    "intervals": pd.Series(pd.interval_range(0, 2)),
    "sparse": pd.Series(pd.arrays.SparseArray([0, 0, 1])),
    "odd objects": pd.Series([pd.NA, 1], dtype=object),
}


@pytest.mark.parametrize("name", CARRIED)
def test_a_pandas_value_comes_back_equal_without_pickle(name: str) -> None:
    encoded = codec.encode(CARRIED[name])

    assert encoded.codec == "pandas"
    assert frames.is_same(codec.decode(encoded), CARRIED[name])
    assert codec.encode(codec.decode(encoded)) == encoded, "equal values have equal digests"
    assert str(as_json(encoded.codec, encoded.data)).startswith("<pandas ")


@pytest.mark.parametrize("name", NOT_CARRIED)
def test_what_would_not_come_back_equal_is_pickled(name: str) -> None:
    encoded = codec.encode(NOT_CARRIED[name])

    assert encoded.codec == PICKLE
    assert frames.is_same(codec.decode(encoded), NOT_CARRIED[name])


def test_attributes_and_flags_of_a_frame_come_back() -> None:
    frame = pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False)
    frame.attrs = {"source": ("a", 1)}

    back = codec.decode(codec.encode(frame))

    assert (back.attrs, back.flags.allows_duplicate_labels) == ({"source": ("a", 1)}, False)


def test_a_frame_that_was_read_can_be_written_to() -> None:
    back = codec.decode(codec.encode(pd.DataFrame({"a": [1, 2]})))
    back.loc[0, "a"] = 7

    assert back["a"].tolist() == [7, 2]


def test_arrays_and_frames_within_plain_data_need_no_pickle() -> None:
    encoded = codec.encode({"frame": CARRIED["plain"], "array": np.arange(3), "rest": (1, "a")})

    back = codec.decode(encoded)

    assert encoded.codec == "tagged"
    assert frames.is_same(back["frame"], CARRIED["plain"])
    assert (back["array"].tolist(), back["rest"]) == ([0, 1, 2], (1, "a"))
    assert as_json(encoded.codec, encoded.data)["array"] == "<numpy <i8 of shape (3,), 152 bytes>"


def test_arguments_that_hold_frames_are_compared_by_value() -> None:
    one, same, other = (digest_inputs({"f": pd.DataFrame({"a": [n]})}) for n in (1, 1, 2))

    assert one == same != other
    assert not is_opaque(one)


def test_a_process_that_has_no_pandas_value_loads_no_pandas() -> None:
    program = (
        "from kitaru_runner.values import codec; codec.encode({'a': (1,)}); import sys; print('pandas' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"


# Registered ones


class Image:
    def __init__(self, pixels: bytes) -> None:
        self.pixels = pixels


@dataclass
class Page:
    image: Image
    title: str = ""


@pytest.fixture
def registered() -> Iterator[None]:
    register_codec(Image, name="acme.image", encode=lambda image: image.pixels, decode=Image)
    yield
    custom.by_type.clear()
    custom.by_name.clear()


def test_a_registered_type_is_carried_by_its_codec(registered: None) -> None:
    encoded = codec.encode(Image(b"px"))

    assert encoded == Encoded("acme.image", b"px")
    assert codec.decode(encoded).pixels == b"px"


def test_it_is_carried_within_other_values_too(registered: None) -> None:
    encoded = codec.encode([Page(Image(b"px"), "first")])

    (back,) = codec.decode(encoded)
    assert (encoded.codec, back.image.pixels, back.title) == ("tagged", b"px", "first")
    assert as_json(encoded.codec, encoded.data) == [{"image": "<acme.image, 2 bytes>", "title": "first"}]


def test_its_values_have_lineage_and_digests(registered: None, execution: TestExecution) -> None:
    @checkpoint
    def paint() -> Image:
        return Image(b"px" * 20)

    @checkpoint
    def frame(image: Image) -> int:
        save("kept", image)
        return len(image.pixels)

    execution.attempt(lambda: frame(paint()))

    row = execution.rows[1]
    assert (row.parents, is_opaque(row.inputs or b"")) == ('["paint"]', False)


def test_where_it_is_not_registered_the_error_names_it() -> None:
    with pytest.raises(KitaruUsageError, match=r"codec acme\.image, which is not registered here") as raised:
        codec.decode(Encoded("acme.image", b"px"))

    assert "kitaru.register_codec(..., name='acme.image')" in str(raised.value.hint)


@pytest.mark.parametrize("name", ["image", "json", "Acme.Image", "acme.", "kitaru.image", "acme image.x", ""])
def test_a_name_needs_a_namespace(name: str) -> None:
    with pytest.raises(KitaruUsageError, match="has no namespace"):
        register_codec(Image, name=name, encode=bytes, decode=Image)


@pytest.mark.parametrize("kind", [str, dict, list, int, "Image"])
def test_a_type_that_kitaru_carries_itself_is_refused(kind: Any) -> None:
    with pytest.raises(KitaruUsageError, match="no codec of its own is possible"):
        register_codec(kind, name="acme.thing", encode=bytes, decode=bytes)


def test_one_name_is_of_one_type_and_registering_again_replaces(registered: None) -> None:
    with pytest.raises(KitaruUsageError, match=r"acme\.image is registered for .*Image already"):
        register_codec(Page, name="acme.image", encode=lambda page: b"", decode=lambda data: Page(Image(data)))

    register_codec(Image, name="acme.image", encode=lambda image: b"other", decode=Image)
    assert codec.encode(Image(b"px")).data == b"other"


def broken(*_: Any) -> Any:
    raise OSError("no disk")


@pytest.mark.parametrize(("encode", "said"), [(broken, "encode raised OSError: no disk"), (str, "encode gave a str")])
def test_a_broken_codec_fails_the_checkpoint_before_it_counts(
    registered: None, execution: TestExecution, encode: Any, said: str
) -> None:
    register_codec(Image, name="acme.image", encode=encode, decode=broken)

    @checkpoint
    def paint() -> Image:
        return Image(b"px")

    execution.attempt(paint)

    error = execution.record.error
    assert error is not None
    assert said in error.message
    assert execution.outcomes["paint"] is not None
    with pytest.raises(KitaruUsageError, match="decode raised OSError"):
        codec.decode(Encoded("acme.image", b"px"))


# Pickles forbidden


def test_where_pickles_are_forbidden_a_value_that_needs_one_fails_its_checkpoint(execution: TestExecution) -> None:
    engine, _, _ = execution.begin()
    engine.opening = replace(engine.opening, may_pickle=False)

    @checkpoint
    def paint() -> Any:
        return lambda: Image(b"px")

    @checkpoint
    def plain() -> tuple[int, ...]:
        return (1,)

    run_body(engine, lambda: [plain(), paint()], {})

    error = execution.record.error
    assert error is not None
    assert 'and [values] pickle = "forbid"' in error.message
    assert error.checkpoint == "paint"
    assert [row.key for row in execution.rows if row.error is None] == ["plain"]
