"""Each request is a frozen question that one table answers, and its docstring says what else may come of it."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import TypeAdapter
from registries import HERE, Registry, config_of, digest_of

from kitaru_registry import errors
from kitaru_registry.api import local
from kitaru_registry.api.local import LocalRegistry
from kitaru_registry.api.request import Actor, Request, answer_type
from kitaru_registry.api.tag_requests import ListTags, MoveTag, TagHistory
from kitaru_registry.api.version_requests import GetVersion, ListFlows, ListVersions
from kitaru_registry.database.opening import open_database
from kitaru_registry.deployments.refs import FlowRef, Selector
from kitaru_registry.errors import KitaruError
from kitaru_registry.home import Home
from kitaru_registry.models import Digest, GitFacts, Origin, SnapshotConfig

ME = Actor("ada@analytical")
REQUESTS = list(local.table())

SAMPLES: Mapping[Any, Any] = {
    bool: True,
    int: 1,
    float: 1.0,
    str: "thing",
    bytes: b"{}",
    datetime: datetime(2026, 1, 2, tzinfo=UTC),
    Digest: digest_of("one"),
    FlowRef: FlowRef("thing", Selector(tag="stable"), "default"),
    Origin: HERE,
    GitFacts: GitFacts(commit=None, branch=None, dirty=False),
    SnapshotConfig: config_of("thing", "one"),
    Any: {"a": [1]},
}


def sample(kind: Any) -> Any:
    """Some value of the kind that an annotation names."""
    if kind in SAMPLES:
        return SAMPLES[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return sample(arguments[0])
    if origin is typing.Literal:
        return arguments[0]
    if origin is tuple:
        return (sample(arguments[0]),)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {sample(arguments[0]): sample(arguments[1])}
    if dataclasses.is_dataclass(kind):
        return filled(kind)
    if isinstance(kind, typing.NewType):
        return sample(kind.__supertype__)
    raise NotImplementedError(f"a sample of {kind}")


def filled(kind: Any) -> Any:
    """A request with something in every field."""
    hints = typing.get_type_hints(kind)
    return kind(**{field.name: sample(hints[field.name]) for field in dataclasses.fields(kind)})


@pytest.fixture
def registry(cold_home: Home) -> Iterator[LocalRegistry]:
    database = open_database(cold_home)
    yield LocalRegistry(database)
    database.close()


def test_every_request_of_every_module_is_in_the_table() -> None:
    of_modules = {
        found
        for noun in local.NOUNS
        for found in vars(__import__(f"kitaru_registry.api.{noun}_requests", fromlist=["_"])).values()
        if inspect.isclass(found) and issubclass(found, Request) and found is not Request
    }

    assert of_modules == set(REQUESTS)


@pytest.mark.parametrize("request_type", REQUESTS)
def test_a_request_is_frozen_and_says_what_it_is_answered_with(request_type: Any) -> None:
    asked = filled(request_type)

    for field in dataclasses.fields(asked):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(asked, field.name, None)
    assert TypeAdapter(answer_type(request_type)).json_schema() is not None
    # What a dataclass without a docstring is given is its signature.
    assert not (request_type.__doc__ or "").startswith(f"{request_type.__name__}(")


@pytest.mark.parametrize("request_type", REQUESTS)
def test_a_request_is_read_again_as_it_was_written(request_type: Any) -> None:
    adapter = TypeAdapter(request_type)
    asked = filled(request_type)

    assert adapter.validate_json(adapter.dump_json(asked, by_alias=True)) == asked
    assert adapter.json_schema()["title"] == request_type.__name__


@pytest.mark.parametrize("request_type", REQUESTS)
def test_asked_of_an_empty_home_it_is_answered_or_raises_what_it_says(
    request_type: Any, registry: LocalRegistry
) -> None:
    answers, raised = TypeAdapter(answer_type(request_type)), None
    try:
        answer = registry.ask(filled(request_type), by=ME)
    except KitaruError as error:
        raised = error

    if raised is None:
        assert answers.validate_json(answers.dump_json(answer, by_alias=True)) == answer
    else:
        assert type(raised).__name__ in (request_type.__doc__ or ""), raised.message
        assert raised.hint


@pytest.mark.parametrize("request_type", REQUESTS)
def test_what_a_docstring_says_is_raised_is_an_error_that_there_is(request_type: Any) -> None:
    said = (request_type.__doc__ or "").partition("Raises:")[2]
    named = [word.strip(":,") for word in said.split() if word.startswith("Kitaru") and word.endswith((":", ","))]

    assert all(issubclass(getattr(errors, name), KitaruError) for name in named)


def test_answers_of_a_home_with_versions_and_tags_are_read_again_as_they_were(registry: LocalRegistry) -> None:
    home = Registry(registry.holdings.database)
    home.deploy("one")
    home.deploy("two", tag="stable")
    asked: list[Request[Any]] = [
        MoveTag(project="default", tag="stable", version=1, reason="because"),
        ListTags(project="default"),
        TagHistory(project="default", tag="stable"),
        ListFlows(project="default"),
        ListVersions(project="default", flow="review"),
        GetVersion(project="default", ref=FlowRef("review", Selector(version=2))),
    ]
    for request in asked:
        answers = TypeAdapter(answer_type(type(request)))

        answer = registry.ask(request, by=ME)

        assert answers.validate_json(answers.dump_json(answer, by_alias=True)) == answer, request


def test_who_asks_is_who_the_history_names(registry: LocalRegistry) -> None:
    Registry(registry.holdings.database).deploy("one")

    moved = registry.ask(MoveTag(project="default", tag="stable", version=1), by=ME)

    assert (moved.flow, moved.actor) == ("review", "ada@analytical")
