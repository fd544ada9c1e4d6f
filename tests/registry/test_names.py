"""Names that may be, names that may not, and which one was meant."""

from __future__ import annotations

import pytest

from kitaru_registry.errors import KitaruUsageError
from kitaru_registry.names import check_name, nearest


@pytest.mark.parametrize("name", ["a", "review_flow", "7", "A.b-c_d", "x" * 100, "v3"])
def test_a_plain_name_may_be(name: str) -> None:
    assert check_name("flow", name) == name


@pytest.mark.parametrize("name", ["", "-a", ".a", "_a", "a b", "a/b", "a@b", "größe", "a\n", "x" * 101, "a:b", "../x"])
@pytest.mark.parametrize("kind", ["project", "flow", "tag"])
def test_an_odd_name_is_refused_and_the_rule_is_told(kind: str, name: str) -> None:
    with pytest.raises(KitaruUsageError, match=f"cannot be the name of a {kind}") as refused:
        check_name(kind, name)
    assert "letters, digits" in str(refused.value.hint)


@pytest.mark.parametrize("name", ["v3", "v0", "v123"])
def test_a_tag_may_not_look_like_a_version(name: str) -> None:
    with pytest.raises(KitaruUsageError, match="how versions are written"):
        check_name("tag", name)


@pytest.mark.parametrize("name", ["v", "v3a", "version3", "V3"])
def test_a_tag_that_only_begins_like_a_version_may_be(name: str) -> None:
    assert check_name("tag", name) == name


@pytest.mark.parametrize(
    ("typed", "meant"), [("reveiw", "review"), ("REVIEW", "review"), ("stabel", "stable"), ("zzz", None)]
)
def test_the_nearest_name_is_found_whatever_its_case(typed: str, meant: str | None) -> None:
    assert nearest(typed, ["stable", "review", "canary"]) == meant
