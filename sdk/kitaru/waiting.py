"""`wait`, `wait_any`, `sleep`: durable pauses, for somebody's input or for a time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from kitaru.execution import loop_is_running, require_branch
from kitaru_registry.clock import now_us
from kitaru_registry.errors import KitaruUsageError, KitaruWaitAborted, KitaruWaitTimeout, KitaruWaitValidationError
from kitaru_registry.journal.entries import Answer as Came
from kitaru_registry.names import LONGEST_TEXT, check_text, told
from kitaru_runner.engine.checkpoints.stands import Question, Stand, stand_at
from kitaru_runner.engine.core.calls import Branch, this_branch
from kitaru_runner.values.exception_parts import FAILED_CALL

LONGEST_SECONDS = 100 * 366 * 86_400

LAST_US = 253_402_300_799 * 1_000_000
"""The last second of the year 9999 in UTC, in microseconds since 1970."""


class NoDefault:
    """Stands for a default that was not given: None is one."""

    def __repr__(self) -> str:
        return "NO_DEFAULT"


NO_DEFAULT = NoDefault()

PLAIN_SCHEMAS: dict[Any, dict[str, Any]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
}
"""Without pydantic, which takes a tenth of a second to import."""


class Answer(NamedTuple):
    """The first answer to a `wait_any`: to which question, and what."""

    name: str
    value: Any


def wait(
    *,
    schema: Any = None,
    name: str | None = None,
    question: str | None = None,
    timeout: float | timedelta | None = None,
    default: Any = NO_DEFAULT,
    metadata: Mapping[str, Any] | None = None,
) -> Any:
    """The answer, validated; the flow stands still until somebody gives it. In `async def`: `await wait(...)`.

    A deployed execution that has nothing else to do holds no process while it waits.

    Args:
        schema: any type that pydantic validates: `bool`, `Literal["a", "b"]`, a model. None asks for a go-ahead
            and gives None.
        name: by which it is answered; `wait` by default.
        question, metadata: shown to whoever answers.
        timeout: seconds, or a timedelta, until the wait expires; None: never. It is how long an answer may take, not
            how long a process is held.
        default: what an expired wait gives.

    Raises:
        KitaruContextError: outside of a flow, or inside a checkpoint.
        KitaruUsageError: a schema that pydantic cannot build.
        KitaruWaitTimeout: it has expired, and has no default.
        KitaruWaitAborted: somebody aborted it.
    """
    branch = require_branch("wait")
    asked = question_of(name=name or "wait", schema=schema, question=question, metadata=metadata)
    stand = Stand(asked.name, questions=(asked,), deadline_us=deadline_of(timeout))
    return standing(branch, stand, lambda answer: read(answer, schema, stand.name, default))


def wait_any(
    *questions: Mapping[str, Any], name: str = "wait_any", timeout: float | timedelta | None = None,
    default: Any = NO_DEFAULT,
) -> Any:  # fmt: skip
    """The first answer to any of several questions, as `Answer(name, value)`; the others are closed.

        wait_any(dict(name="lead", schema=bool), dict(name="manager", schema=bool))

    Args:
        questions: of each what `wait` takes: name, schema, question, metadata.
        name, timeout, default: of all of them together, as in `wait`.

    Raises:
        KitaruUsageError: fewer than two, two of one name, or an option that a question does not have.
        Else as `wait`.
    """
    branch = require_branch("wait_any")
    asked = {}
    for given in questions:
        check_question(given)
        asked[given["name"]] = question_of(**given)
    if len(asked) < 2 or len(asked) < len(questions):
        raise KitaruUsageError(
            f"wait_any() got the questions {', '.join(str(q.get('name')) for q in questions) or 'none'}",
            hint="ask two or more, each with a name of its own; one alone is wait()",
        )
    schemas = {given["name"]: given.get("schema") for given in questions}
    stand = Stand(check_name(name), questions=tuple(asked.values()), deadline_us=deadline_of(timeout))

    def first(answer: Came) -> Any:
        if answer.outcome != "answered":
            return read(answer, None, name, default)
        said = json.loads(answer.data)
        came = Came(json.dumps(said["value"]).encode())
        return Answer(said["name"], read(came, schemas[said["name"]], said["name"], default))

    return standing(branch, stand, first)


def sleep(duration: float | timedelta) -> Any:
    """Let so many seconds pass, or that timedelta; durable, and a longer one holds no process.

    In `async def`: `await sleep(...)`. Outside of a flow it sleeps in place.

    Raises:
        KitaruContextError: inside a checkpoint.
        KitaruUsageError: it is negative.
    """
    return sleep_to(deadline_after(duration, "sleep"))


def sleep_until(moment: datetime) -> Any:
    """Sleep until an aware datetime; a past one is no sleep. Otherwise as `sleep`.

    Raises:
        KitaruUsageError: no datetime, or a naive one, which says no time without a zone.
    """
    if not isinstance(moment, datetime):
        raise KitaruUsageError(f"sleep_until({told(moment)}) is no moment", hint="give an aware datetime")
    if moment.tzinfo is None:
        raise KitaruUsageError(
            f"sleep_until({moment.isoformat()}) has no time zone", hint="write datetime(..., tzinfo=timezone.utc)"
        )
    # West of Greenwich the last hours of 9999 are a year that no datetime in UTC can say.
    return sleep_to(min(max(int(moment.timestamp() * 1_000_000), 0), LAST_US))


def sleep_to(deadline_us: int) -> Any:
    branch = this_branch()
    if branch is not None:
        return standing(branch, Stand("sleep", kind="sleep", deadline_us=deadline_us), lambda _: None)
    left = max(0.0, (deadline_us - now_us()) / 1_000_000)
    if loop_is_running():
        import asyncio

        return asyncio.sleep(left)
    return time.sleep(left)


def standing(branch: Branch, stand: Stand, read: Callable[[Came], Any]) -> Any:
    """What `read` makes of the outcome; on an event loop, something to await."""
    if not loop_is_running():
        return given(branch, stand_at(branch, stand), read)
    from kitaru_runner.engine.aio.standing import stand as stand_on_loop

    async def on_loop() -> Any:
        return given(branch, await stand_on_loop(stand), read)

    return on_loop()


def given(branch: Branch, answer: Came, read: Callable[[Came], Any]) -> Any:
    """The value; what it is passed to was made from it. Or the failure, which a retry asks anew for."""
    try:
        value = read(answer)
    except (KitaruWaitTimeout, KitaruWaitAborted, KitaruWaitValidationError) as error:
        error.__dict__[FAILED_CALL] = answer.key
        if isinstance(error, KitaruWaitValidationError):
            error.hint = f"kitaru executions retry {branch.attempt.exec_id} asks again"
        raise
    branch.attempt.lineage.note(value, answer.key, len(answer.data))
    return value


def question_of(
    *, name: str, schema: Any = None, question: str | None = None, metadata: Mapping[str, Any] | None = None
) -> Question:
    if question is not None and not isinstance(question, str):
        raise KitaruUsageError(f"question={told(question)} is no text", hint="write the question as text")
    if question is not None:
        check_text("question= of a wait", question, most=LONGEST_TEXT)
    if metadata is not None:
        check_metadata(metadata)
    return Question(check_name(name), question, json_schema(schema), metadata)


def check_metadata(metadata: Any) -> None:
    """
    Raises:
        KitaruUsageError: it cannot be shown to whoever answers.
    """
    try:
        size = len(json.dumps(metadata, allow_nan=False))
        wrong = None if isinstance(metadata, Mapping) else f"it is of type {type(metadata).__name__}"
        if size > LONGEST_TEXT:
            wrong = f"it has {size:,} bytes; {LONGEST_TEXT:,} is the most"
    except (TypeError, ValueError, RecursionError) as error:
        wrong = str(error)
    if wrong is not None:
        raise KitaruUsageError(
            f"metadata= of a wait cannot be shown: {wrong}", hint="give a dict of JSON values: metadata={'draft': text}"
        )


def check_question(given: Any) -> None:
    """
    Raises:
        KitaruUsageError: it is not what `wait_any` takes.
    """
    told = f"of type {type(given).__name__}"
    if isinstance(given, Mapping):
        unknown = sorted(str(name) for name in given if name not in ("name", "schema", "question", "metadata"))
        if not unknown and "name" in given:
            return
        told = f"with {', '.join(unknown) or 'no name'}"
    raise KitaruUsageError(
        f"wait_any() got a question {told}",
        hint='write dict(name="lead", schema=bool, question="..."); timeout= and default= go to wait_any',
    )


def check_name(name: str) -> str:
    if not isinstance(name, str):
        raise KitaruUsageError(f"name={told(name)} cannot name a wait", hint="give a text")
    if not name or not name.isprintable() or "/" in name or "#" in name or "!" in name:
        raise KitaruUsageError(f"name={told(name)} cannot name a wait", hint="give a text without '/', '#' and '!'")
    return check_text("name= of a wait", name)


def deadline_of(timeout: float | timedelta | None) -> int | None:
    return None if timeout is None else deadline_after(timeout, "timeout")


def deadline_after(duration: float | timedelta, what: str) -> int:
    """Microseconds since 1970 at which a duration that begins now is over."""
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < LONGEST_SECONDS:
        raise KitaruUsageError(f"{what} of {told(duration)} is no time", hint="give seconds, 0 or more, or a timedelta")
    return now_us() + int(seconds * 1_000_000)


def read(answer: Came, schema: Any, name: str, default: Any) -> Any:
    if answer.outcome == "expired":
        if default is NO_DEFAULT:
            raise KitaruWaitTimeout(
                f"nobody answered {name} in time", hint=f"give it longer, or wait(name={name!r}, default=...)"
            )
        return default
    if answer.outcome == "aborted":
        raise KitaruWaitAborted(f"the wait {name} was aborted")
    return read_answer(schema, answer.data, name)


def json_schema(schema: Any) -> dict[str, Any] | None:
    if schema is None:
        return None
    if isinstance(schema, type) and schema in PLAIN_SCHEMAS:
        return PLAIN_SCHEMAS[schema]
    from kitaru_runner.values.json_schemas import schema_by_pydantic

    try:
        return schema_by_pydantic(schema)
    # A KeyError, for one, of what is no type at all, such as a JSON schema.
    except Exception as error:
        said = str(getattr(error, "message", "it is no type")).splitlines()[0].split(". Set `")[0]
        raise KitaruUsageError(
            f"wait(schema={told(schema)}): {said}", hint="give a type that pydantic can validate"
        ) from error


def read_answer(schema: Any, answer: bytes, name: str) -> Any:
    if schema is None:
        return None
    if isinstance(schema, type) and schema in PLAIN_SCHEMAS:
        value = json.loads(answer)
        return float(value) if schema is float else value
    from pydantic import ValidationError

    from kitaru_runner.values.json_schemas import adapter_of

    try:
        return adapter_of(schema).validate_json(answer)
    except ValidationError as error:
        raise KitaruWaitValidationError(f"the answer to {name} does not fit: {error}") from error
