"""pandas values as bytes, without pickle: a JSON head, then each array as .npy.

    8 bytes    length of the head, big-endian
    head       {"pandas": 1, "type": "frame" | "series" | "index", ...}; an array is named by its number
    arrays     .npy, one after another

What does not come back equal, in types, names, index and order too, is not carried (binary.NotTaggable): object columns
of odd things, periods, intervals, sparse and Arrow columns, subclasses. The only file that imports pandas.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy
import pandas  # type: ignore[import-untyped]  # it brings no types of its own

from kitaru_runner.values.binary import NotTaggable
from kitaru_runner.values.tagged import tag, untag

LENGTH = struct.Struct(">Q")
MASKED = ("Int", "UInt", "Float", "boolean")


def encode(value: Any) -> bytes:
    """
    Raises:
        NotTaggable: it would not come back equal.
    """
    try:
        data = Writer().document(value)
        if not is_same(decode(data), value):
            raise NotTaggable
    except NotTaggable:
        raise
    except Exception as error:  # whatever pandas says to a dtype that it or we do not know
        raise NotTaggable from error
    return data


def decode(data: bytes) -> Any:
    """What `encode` made the bytes of."""
    buffer = io.BytesIO(data)
    (length,) = LENGTH.unpack(buffer.read(LENGTH.size))
    head = json.loads(buffer.read(length))
    arrays = [numpy.load(buffer, allow_pickle=False) for _ in range(head["arrays"])]
    return Reader(arrays).document(head)


def is_same(one: Any, other: Any) -> bool:
    """Equal in all that pandas can tell apart."""
    exact: dict[str, Any] = {"check_exact": True}
    if type(one) is not type(other) or one.__dict__.get("_attrs") != other.__dict__.get("_attrs"):
        return False
    if isinstance(other, pandas.DataFrame):
        check: Callable[..., None] = pandas.testing.assert_frame_equal
        exact |= {"check_freq": True, "check_column_type": "exact", "check_index_type": "exact"}
    elif isinstance(other, pandas.Series):
        check = pandas.testing.assert_series_equal
        exact |= {"check_freq": True, "check_index_type": "exact"}
    else:
        check = pandas.testing.assert_index_equal
        exact |= {"exact": True}
    try:
        check(one, other, **exact)
    except AssertionError:
        return False
    return True


class Writer:
    def __init__(self) -> None:
        self._arrays: list[Any] = []

    def document(self, value: Any) -> bytes:
        head = json.dumps(
            {"pandas": 1, **self._value(value), "arrays": len(self._arrays)}, separators=(",", ":")
        ).encode()
        buffer = io.BytesIO()
        buffer.write(LENGTH.pack(len(head)) + head)
        for array in self._arrays:
            numpy.save(buffer, array, allow_pickle=False)
        return buffer.getvalue()

    def _value(self, value: Any) -> dict[str, Any]:
        kind = type(value)
        if kind is pandas.DataFrame:
            columns = [self._array(value.iloc[:, number]) for number in range(value.shape[1])]
            rest = {"columns": self._index(value.columns), "index": self._index(value.index), "values": columns}
            return {"type": "frame", **rest, "attrs": tag(value.attrs), "unique": flag_of(value)}
        if kind is pandas.Series:
            rest = {"name": tag(value.name), "index": self._index(value.index), "value": self._array(value)}
            return {"type": "series", **rest, "attrs": tag(value.attrs), "unique": flag_of(value)}
        return {"type": "index", "index": self._index(value)}

    def _index(self, index: Any) -> dict[str, Any]:
        kind = type(index)
        names = [tag(name) for name in index.names]
        if kind is pandas.RangeIndex:
            return {"is": "range", "names": names, "range": [index.start, index.stop, index.step]}
        if kind is pandas.MultiIndex:
            levels = [self._index(level) for level in index.levels]
            return {"is": "multi", "names": names, "levels": levels, "codes": [self._put(c) for c in index.codes]}
        plain = (pandas.Index, pandas.DatetimeIndex, pandas.TimedeltaIndex, pandas.CategoricalIndex)
        if kind not in plain:
            raise NotTaggable
        return {"is": "array", "names": names, "value": self._array(index), "freq": getattr(index, "freqstr", None)}

    def _array(self, holder: Any) -> dict[str, Any]:
        """Of a Series or an Index."""
        dtype, array = holder.dtype, holder.array
        if isinstance(dtype, numpy.dtype):
            if dtype.hasobject:
                return {"is": "object", "v": [tag(item) for item in array]}
            return {"is": "numpy", "n": self._put(holder.to_numpy())}
        if isinstance(dtype, pandas.DatetimeTZDtype):
            return {"is": "zoned", "n": self._put(array.asi8), "unit": dtype.unit, "zone": zone_of(dtype)}
        if isinstance(dtype, pandas.CategoricalDtype):
            categories = self._index(array.categories)
            return {"is": "category", "n": self._put(array.codes), "categories": categories, "ordered": array.ordered}
        if isinstance(dtype, pandas.StringDtype):
            missing = "NA" if dtype.na_value is pandas.NA else "nan"
            words = [None if gone else str(word) for word, gone in zip(array, array.isna(), strict=True)]
            return {"is": "string", "v": words, "storage": dtype.storage, "missing": missing}
        if str(dtype).startswith(MASKED):
            filled = array.to_numpy(dtype=dtype.numpy_dtype, na_value=dtype.numpy_dtype.type(0))
            return {"is": "masked", "n": self._put(filled), "gone": self._put(array.isna()), "dtype": str(dtype)}
        raise NotTaggable

    def _put(self, array: Any) -> int:
        self._arrays.append(numpy.ascontiguousarray(array))
        return len(self._arrays) - 1


class Reader:
    def __init__(self, arrays: Sequence[Any]) -> None:
        self._arrays = arrays

    def document(self, head: Any) -> Any:
        index = self._index(head["index"])
        if head["type"] == "index":
            return index
        if head["type"] == "series":
            value: Any = pandas.Series(self._array(head["value"]), index=index, name=untag(head["name"]), copy=True)
        else:
            columns = {number: self._array(array) for number, array in enumerate(head["values"])}
            value = pandas.DataFrame(columns, index=index, copy=True)
            value.columns = self._index(head["columns"])
        value.attrs = untag(head["attrs"])
        return value if head["unique"] else value.set_flags(allows_duplicate_labels=False)

    def _index(self, head: Any) -> Any:
        names = [untag(name) for name in head["names"]]
        if head["is"] == "range":
            return pandas.RangeIndex(*head["range"], name=names[0])
        if head["is"] == "multi":
            levels = [self._index(level) for level in head["levels"]]
            codes = [self._arrays[number] for number in head["codes"]]
            return pandas.MultiIndex(levels=levels, codes=codes, names=names, verify_integrity=False)
        index = pandas.Index(self._array(head["value"]), name=names[0])
        if head["freq"] is not None:
            index.freq = head["freq"]
        return index

    def _array(self, head: Any) -> Any:
        match head["is"]:
            case "numpy":
                return self._arrays[head["n"]]
            case "object":
                found = numpy.empty(len(head["v"]), dtype=object)
                for number, item in enumerate(head["v"]):
                    found[number] = untag(item)
                return found
            case "zoned":
                utc = pandas.DatetimeIndex(self._arrays[head["n"]].view(f"M8[{head['unit']}]"), tz="UTC")
                return utc.tz_convert(head["zone"]).array
            case "category":
                categories = self._index(head["categories"])
                return pandas.Categorical.from_codes(self._arrays[head["n"]], categories, ordered=head["ordered"])
            case "string":
                missing = pandas.NA if head["missing"] == "NA" else numpy.nan
                dtype = pandas.StringDtype(head["storage"], na_value=missing)
                return pandas.array([missing if word is None else word for word in head["v"]], dtype=dtype)
            case _:
                masked = pandas.array(self._arrays[head["n"]], dtype=head["dtype"])
                masked[self._arrays[head["gone"]]] = pandas.NA
                return masked


def flag_of(value: Any) -> bool:
    return bool(value.flags.allows_duplicate_labels)


def zone_of(dtype: Any) -> str:
    zone = getattr(dtype.tz, "key", None) or getattr(dtype.tz, "zone", None) or str(dtype.tz)
    return str(zone)
