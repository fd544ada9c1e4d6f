"""One value is one spelling."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitaru_registry.canonical import canonical_json, hex_of, sha256_of

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


def backwards(value: object) -> object:
    """The same value with the keys of each object in the opposite order."""
    if isinstance(value, dict):
        return {key: backwards(value[key]) for key in reversed(list(value))}
    return [backwards(item) for item in value] if isinstance(value, list) else value


@given(json_values)
def test_the_order_of_keys_does_not_count_and_nothing_is_lost(value: object) -> None:
    assert canonical_json(backwards(value)) == canonical_json(value)
    assert json.loads(canonical_json(value)) == value


def test_the_spelling_is_the_short_one() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": "größe"}) == '{"a":"größe","b":[1,2.5,null]}'.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800"])
def test_what_json_cannot_say_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"JSON|encode"):
        canonical_json(value)


def test_a_digest_is_sha256_in_hex() -> None:
    assert sha256_of(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert hex_of(sha256_of(b"")).startswith("e3b0c442")
