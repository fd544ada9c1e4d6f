"""`wait`: a durable pause for somebody's input."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kitaru.execution import loop_is_running, require_branch
from kitaru_registry.errors import KitaruUsageError, KitaruWaitValidationError

PLAIN_SCHEMAS: dict[Any, dict[str, Any]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
}
"""Without pydantic, which takes a tenth of a second to import."""


def wait(
    *,
    schema: Any = None,
    name: str | None = None,
    question: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Any:
    """The answer, validated; the flow stands still until somebody gives it. In `async def`: `await wait(...)`.

    A deployed execution that has nothing else to do holds no process while it waits.

    Args:
        schema: any type that pydantic validates: `bool`, `Literal["a", "b"]`, a model. None asks for a go-ahead
            and gives None.
        name: by which it is answered; `wait` by default.
        question, metadata: shown to whoever answers.

    Raises:
        KitaruContextError: outside of a flow, or inside a checkpoint.
        KitaruUsageError: a schema that pydantic cannot build.
    """
    branch = require_branch("wait")
    name = name or "wait"
    if "/" in name or "#" in name:
        raise KitaruUsageError(f"name={name!r} cannot name a wait", hint="give a text without '/' and '#'")
    request = {"name": name, "question": question, "schema": json_schema(schema), "metadata": metadata}
    if not loop_is_running():
        return read_answer(schema, branch.engine.wait(branch, **request), name)
    from kitaru_runner.engine_async import run_wait

    async def wait_on_loop() -> Any:
        return read_answer(schema, await run_wait(**request), name)

    return wait_on_loop()


def json_schema(schema: Any) -> dict[str, Any] | None:
    if schema is None:
        return None
    if isinstance(schema, type) and schema in PLAIN_SCHEMAS:
        return PLAIN_SCHEMAS[schema]
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUserError

    try:
        return TypeAdapter(schema).json_schema()
    except PydanticUserError as error:
        raise KitaruUsageError(
            f"wait(schema={schema!r}): {error.message.splitlines()[0]}", hint="give a type that pydantic can validate"
        ) from error


def read_answer(schema: Any, answer: bytes, name: str) -> Any:
    if schema is None:
        return None
    if isinstance(schema, type) and schema in PLAIN_SCHEMAS:
        value = json.loads(answer)
        return float(value) if schema is float else value
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(schema).validate_json(answer)
    except ValidationError as error:
        raise KitaruWaitValidationError(f"the answer to {name} does not fit: {error}") from error
