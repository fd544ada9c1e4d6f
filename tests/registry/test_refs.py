"""What people write, and which version they mean by it."""

from __future__ import annotations

import pytest
from registries import Registry, digest_of

from kitaru_registry.deployments.finding import resolve
from kitaru_registry.deployments.refs import FlowRef, Selector, parse_ref, parse_tag_ref, parse_version
from kitaru_registry.deployments.versions import delete_version
from kitaru_registry.errors import KitaruNotFoundError, KitaruUsageError

DIGEST = digest_of("one")


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("review", FlowRef("review")),
        ("review@stable", FlowRef("review", Selector(tag="stable"))),
        ("review@v3", FlowRef("review", Selector(version=3))),
        ("review@v3-fix", FlowRef("review", Selector(tag="v3-fix"))),
        (f"review@{DIGEST}", FlowRef("review", Selector(digest=DIGEST))),
        ("team/review", FlowRef("review", Selector(), "team")),
        ("team/review@v12", FlowRef("review", Selector(version=12), "team")),
    ],
)
def test_every_documented_form_is_read(text: str, ref: FlowRef) -> None:
    assert parse_ref(text) == ref


@pytest.mark.parametrize("version", [3, "3", "v3"])
def test_a_version_is_a_number_with_or_without_v(version: int | str) -> None:
    assert parse_ref("review", version=version) == parse_ref("review@v3")


def test_the_same_selector_twice_is_one() -> None:
    assert parse_ref("review@stable", tag="stable") == parse_ref("review@stable")


@pytest.mark.parametrize(
    ("text", "tag", "version"),
    [("review@stable", "canary", None), ("review@stable", None, 3), ("review", "stable", 3), ("review@v2", None, "v3")],
)
def test_two_selectors_that_differ_are_refused(text: str, tag: str | None, version: int | str | None) -> None:
    with pytest.raises(KitaruUsageError, match=r"both .* are given for review"):
        parse_ref(text, tag=tag, version=version)


@pytest.mark.parametrize(
    "text",
    ["", "@stable", "review@", "a/b/c", "/review", "re view", "review@st able", "review@sha256:XYZ", "review@sha256:ab",
     "review@v0", "../review", "review@stable@v3", "-review", "review\n"],
)  # fmt: skip
def test_odd_text_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(KitaruUsageError) as refused:
        parse_ref(text)

    assert refused.value.hint


@pytest.mark.parametrize("version", [0, -1, True, "x", "v", "3.0", "vv3", ""])
def test_what_is_no_version_is_refused(version: int | str) -> None:
    with pytest.raises(KitaruUsageError, match="is no version"):
        parse_version(version)


def test_a_tag_ref_takes_its_flow_from_either_side() -> None:
    assert parse_tag_ref("stable", None) == (None, "stable")
    assert parse_tag_ref("stable", "review") == ("review", "stable")
    assert parse_tag_ref("review@stable", None) == ("review", "stable")
    assert parse_tag_ref("review@stable", "review") == ("review", "stable")


def test_a_tag_ref_with_two_flows_is_refused() -> None:
    with pytest.raises(KitaruUsageError, match="both the flow review and the flow other"):
        parse_tag_ref("review@stable", "other")


def test_a_tag_cannot_look_like_a_version() -> None:
    with pytest.raises(KitaruUsageError, match="that is how versions are written"):
        parse_tag_ref("review@v3", None)


def test_a_ref_resolves_to_the_version_and_the_tag_that_led_there(registry: Registry) -> None:
    registry.deploy("one")
    registry.deploy("two", tag="canary")

    def found(text: str) -> tuple[int, str | None]:
        version, tag = resolve(registry.database, parse_ref(text), project="default")
        return version.version, tag

    assert found("review") == (1, "default")
    assert found("review@canary") == (2, "canary")
    assert found("review@v2") == (2, None)
    assert found(f"review@{DIGEST}") == (1, None)
    assert found(f"review@{DIGEST[:14]}") == (1, None)
    assert found("default/review@canary") == (2, "canary")


def test_a_resolved_version_carries_its_digest_and_its_tags(registry: Registry) -> None:
    registry.deploy("one", tag="stable")

    version, _ = resolve(registry.database, parse_ref("review"), project="default")

    assert (version.digest, version.tags) == (DIGEST, ("default", "stable"))


def missing(registry: Registry, text: str) -> tuple[str, str | None]:
    with pytest.raises(KitaruNotFoundError) as error:
        resolve(registry.database, parse_ref(text), project="default")
    return error.value.message, error.value.hint


def test_a_missing_flow_names_what_there_is_and_the_nearest(registry: Registry) -> None:
    registry.deploy("one")
    registry.deploy("one", flow="release_notes")

    message, hint = missing(registry, "reviw")

    assert message == (
        "there is no flow reviw in project default; there are the flows release_notes, review; did you mean review?"
    )
    assert hint == "kitaru flows"


def test_without_any_flow_the_next_step_is_a_deploy(registry: Registry) -> None:
    assert missing(registry, "review")[1] == "kitaru deploy path.py:flow"


def test_a_flow_of_another_project_is_pointed_at(registry: Registry) -> None:
    registry.deploy("one", project="team")

    assert missing(registry, "review")[1] == "project team has one: team/review"


def test_a_missing_tag_version_or_digest_says_what_there_is(registry: Registry) -> None:
    registry.deploy("one", tag="stable")
    registry.deploy("two")

    assert "there are the tags default, stable; did you mean stable?" in missing(registry, "review@stabel")[0]
    assert missing(registry, "review@v9")[0] == "review has no v9; there are the versions v2, v1"
    assert "there are the versions v2, v1" in missing(registry, f"review@{digest_of('other')}")[0]


def test_a_deleted_version_is_said_to_be_deleted(registry: Registry) -> None:
    registry.deploy("one")
    registry.deploy("two")
    delete_version(registry.database, project="default", flow="review", version=2)

    assert missing(registry, "review@v2")[0] == "v2 of review was deleted; there is the version v1"
    assert "no version of review has the digest" in missing(registry, f"review@{digest_of('two')}")[0]
