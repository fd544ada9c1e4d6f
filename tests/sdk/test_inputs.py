"""What a deployed flow is invoked with."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, Field
from registries import HERE, Registry, config_of, digest_of

from kitaru.invoking import as_json, without_unset
from kitaru_registry.database.opening import open_database
from kitaru_registry.deployments.refs import FlowRef
from kitaru_registry.deployments.versions import register
from kitaru_registry.executions import families
from kitaru_registry.home import Home
from kitaru_runner.values.signatures import convert_inputs, input_schema

made: list[int] = []


def next_id() -> int:
    made.append(len(made))
    return made[-1]


class Patch(BaseModel):
    name: str | None = None
    age: int | None = None
    user: str = Field("me", alias="userName")
    id: int = Field(default_factory=next_id)


@dataclasses.dataclass
class Order:
    patch: Patch
    count: int = 1


def update(patch: Patch, orders: list[Order], plain: dict[str, Any]) -> None:
    pass


@pytest.fixture
def registry(cold_home: Home) -> Iterator[Registry]:
    database = open_database(cold_home)
    yield Registry(database)
    database.close()


def test_a_model_that_a_flow_is_invoked_with_knows_which_fields_were_set(registry: Registry) -> None:
    config = config_of("update", "one").model_copy(update={"input_schema": input_schema(update)})
    register(
        registry.database, project="default", flow="update", origin=HERE, digest=digest_of("one"), config=config,
        git=None, actor="me", tag=None, adopt=False,
    )  # fmt: skip
    inputs = {"patch": Patch(name="x"), "orders": [Order(Patch(age=1))], "plain": {"any": Patch(userName="u")}}
    said = as_json(inputs)
    only_set = {name: without_unset(value, said[name]) for name, value in inputs.items()}

    new = families.invocation(
        registry.database, FlowRef("update"), said, project="default", actor="me", only_set=only_set
    )
    given = convert_inputs(update, new.inputs)

    assert given["patch"].model_dump(exclude_unset=True).keys() == {"name", "id"}
    assert given["patch"] == inputs["patch"], "what a factory made is not made again"
    assert given["orders"][0].patch.model_dump(exclude_unset=True).keys() == {"age", "id"}
    assert given["plain"]["any"]["name"] is None, "a flow that knows no fields knows no defaults"
