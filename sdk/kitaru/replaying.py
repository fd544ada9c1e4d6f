"""Replays: a new execution that reuses what another one recorded, up to a call."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kitaru.handle import FlowHandle
from kitaru.invoking import as_json
from kitaru.working import set_going
from kitaru_registry.canonical import json_digest
from kitaru_registry.deployments.finding import Resolved, resolve_on
from kitaru_registry.deployments.refs import FlowRef, Selector, parse_version
from kitaru_registry.errors import KitaruConflictError, KitaruUsageError
from kitaru_registry.executions import reading, replays
from kitaru_registry.executions.creating import NewExecution
from kitaru_registry.executions.ids import new_execution_id
from kitaru_registry.executions.journal import Row
from kitaru_registry.executions.replaying import AskedWait, Given, Override, Plan, Wanted, listed, parse_overrides, plan
from kitaru_registry.executions.replays import Original
from kitaru_registry.executions.views import ReplayPlan
from kitaru_registry.journal import display
from kitaru_registry.journal.entries import Encoded
from kitaru_registry.models import ExecutionId
from kitaru_registry.schemas import check_answer, check_inputs
from kitaru_runner.values import codec
from kitaru_runner.values.pickles import PICKLE
from kitaru_runner.values.tagged import tag

if TYPE_CHECKING:
    from kitaru.definition import FlowDefinition
    from kitaru.session import Session


@dataclass(frozen=True)
class Request:
    """What a replay is to be."""

    from_: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """New ones, over the recorded ones."""
    version: int | str | None = None
    only_recorded: bool = False
    idempotency_key: str | None = None
    trust_pickle: bool = False
    with_edits: bool = False


@dataclass(frozen=True)
class Target:
    """The code that is to execute."""

    name: str
    """`v3`, or `source`"""
    python: str | None
    """The minor."""
    is_same: bool
    """Whether it is the very code that recorded."""
    protocol: int
    resolved: Resolved | None = None


@dataclass(frozen=True)
class Prepared:
    """A replay that can be made; nothing was written yet."""

    original: Original
    target: Target
    plan: Plan
    request: Request
    inputs: Encoded
    values: Mapping[str, Encoded]
    """Of given outcomes, by key."""
    answers: Mapping[str, Any]

    @property
    def shown_inputs(self) -> dict[str, Any]:
        value = display.as_json(self.inputs.codec, self.inputs.data)
        return value if isinstance(value, dict) else {"inputs": value}

    @property
    def said(self) -> dict[str, Any]:
        """What the new execution's record says of it."""
        return {
            "of": self.original.row.exec_id,
            "from": self.plan.begins_at,
            "overrides": sorted(self.request.overrides),
            "only_recorded": self.request.only_recorded,
        }


def replay(session: Session, exec_id: str, request: Request) -> FlowHandle:
    """Make the replay, and see to it that it is executed: by a runner, or for a source execution by a new process."""
    prepared = prepare(session, exec_id, request)
    row = prepared.original.row
    if prepared.target.resolved is None and row.kind == "source":
        from kitaru.sources import require_resumable

        execution = reading.get_execution(session.database, row.exec_id)
        require_resumable(session, execution, with_edits=request.with_edits, command="replay")
    made, created = create(session, prepared, new_execution(session, prepared))
    if created:
        set_going(session, made, with_edits=request.with_edits)
    return FlowHandle(session, made, row.flow, created=created)


def create(session: Session, prepared: Prepared, new: NewExecution) -> tuple[ExecutionId, bool]:
    values = {key: replays.stored(session.database, it.codec, it.data) for key, it in prepared.values.items()}
    return replays.create_replay(
        session.database, new, prepared.original, prepared.plan, values=values, answers=prepared.answers
    )


def prepare(session: Session, exec_id: str, request: Request) -> Prepared:
    """
    Raises:
        KitaruError: it cannot be made; nothing was written.
    """
    original = find_original(session, exec_id)
    require_beginning(request, original.row.exec_id)
    target = find_target(session, original, request)
    return prepare_for(session, original, target, request, merged_inputs(original, target, request))


def require_beginning(request: Request, what: str) -> None:
    """
    Raises:
        KitaruUsageError: nothing says from where `what` is to execute again.
    """
    if request.from_ is None and not request.overrides and request.version is None and not request.only_recorded:
        verb, keys = ("are", "") if what == "they" else ("is", f"; see kitaru executions get {what}")
        raise KitaruUsageError(
            f"from which call {verb} {what} to execute again?",
            hint=f"--from KEY, --from failed, --overrides, or --version vN{keys}",
        )


def prepare_for(session: Session, original: Original, target: Target, request: Request, inputs: Encoded) -> Prepared:
    if request.inputs and request.from_ is None and not request.overrides:
        raise KitaruUsageError(
            "new inputs change nothing where everything that is recorded is reused", hint="add --from KEY"
        )
    wanted = Wanted(request.from_, parse_overrides(request.overrides))
    made = plan(original.known, wanted, keeps=target.protocol > 1)
    check_pickles(session, original, made, target, request)
    return Prepared(
        original, target, made, request, inputs,
        values={it.key: given_value(session, it, is_same=target.is_same) for it in made.given},
        answers={key: given_answer(original, key, override) for key, override in made.answers.items()},
    )  # fmt: skip


def find_original(session: Session, exec_id: str) -> Original:
    return replays.read_original(session.database, reading.find_id(session.database, exec_id))


# The code


def find_target(session: Session, original: Original, request: Request) -> Target:
    """
    Raises:
        KitaruNotFoundError: there is no such version, or it was deleted.
    """
    row = original.row
    number = parse_version(request.version) if request.version is not None else row.version
    if row.entrypoint is not None and request.version is not None:
        raise KitaruConflictError(
            f"execution {row.exec_id} was started by another one, and is of no version of its own",
            hint="leave out the version, or replay the execution that started it",
        )
    if row.entrypoint is not None or number is None:
        needs = row.needs or {}
        return Target(source_or_version(row), needs.get("python"), True, needs.get("protocol", 2))
    ref = FlowRef(row.flow, Selector(version=number), row.project)
    with session.database.read() as connection:
        resolved = resolve_on(connection, ref, project=row.project)
    config = resolved.config
    return Target(f"v{number}", config.python, resolved.version.digest == row.digest, config.protocol, resolved)


def here() -> Target:
    """The working tree, in this process."""
    return Target("source", PICKLE.removeprefix("pickle-"), False, 2)


def source_or_version(row: Any) -> str:
    return f"v{row.version}" if row.version is not None else "source"


def check_pickles(session: Session, original: Original, made: Plan, target: Target, request: Request) -> None:
    """
    Raises:
        KitaruConflictError: a reused value could not be read, or should not be.
    """
    pickled = [row for row in made.rows if row.value is not None and row.value.codec.startswith("pickle-")]
    other = [row for row in pickled if row.value is not None and row.value.codec != f"pickle-{target.python}"]
    if other and target.python is not None:
        assert other[0].value is not None
        minor = other[0].value.codec.removeprefix("pickle-")
        raise KitaruConflictError(
            f"{pickles_of(other)} pickled by Python {minor}, which {target.name} cannot read with {target.python}",
            hint=f"begin before that: --from {other[0].key}; or return a type with a codec: docs/concepts.md, values",
        )
    if pickled and not target.is_same and not request.trust_pickle and not session.home.is_own:
        raise KitaruConflictError(
            f"{pickles_of(pickled)} pickled by other code, in a home that is not yours: reading a pickle runs code",
            hint=f"begin before that: --from {pickled[0].key}; or, if you trust who wrote it: --trust-pickle",
        )


def pickles_of(rows: Sequence[Row]) -> str:
    keys = listed([row.key for row in rows])
    return f"the value of {keys} was" if len(rows) == 1 else f"the values of {keys} were"


# Inputs, outcomes and answers


def merged_inputs(original: Original, target: Target, request: Request) -> Encoded:
    """The recorded inputs, and the new ones over them, as the target takes them.

    Raises:
        KitaruUsageError: they do not fit, or cannot be merged without the flow's code.
    """
    row = original.row
    recorded, new = Encoded(row.inputs_codec, original.given), as_json(request.inputs)
    if target.resolved is not None:
        merged = {**shown_inputs(original), **new}
        check_inputs(target.resolved.config.input_schema, merged, flow=row.flow)
        return recorded if row.kind == "deployed" and not new else Encoded("json", compact(merged))
    if not new:
        return recorded
    if recorded.codec not in ("json", "tagged"):
        raise KitaruUsageError(
            f"the inputs of execution {row.exec_id} were pickled: only its own code can put new ones beside them",
            hint=f"kitaru run path.py:{row.flow} --replay {row.exec_id} --input ...",
        )
    tagged = json.loads(recorded.data)
    unknown = sorted(set(new) - set(tagged)) if "*args" in tagged else []
    if unknown:
        raise KitaruUsageError(
            f"the inputs {', '.join(unknown)} were given by position", hint=f"kitaru run ... --replay {row.exec_id}"
        )
    return Encoded(recorded.codec, compact({**tagged, **{name: tag(value) for name, value in new.items()}}))


def shown_inputs(original: Original) -> dict[str, Any]:
    """The recorded inputs as JSON."""
    value = display.as_json(original.row.inputs_codec, original.given)
    return value if isinstance(value, dict) else {}


def inputs_here(flow: FlowDefinition, original: Original, request: Request) -> dict[str, Any]:
    """The recorded inputs as this flow takes them, and the new ones over them.

    Raises:
        KitaruUsageError: they do not fit the flow.
    """
    from kitaru_runner.values.signatures import convert_inputs

    row = original.row
    recorded = codec.decode(Encoded(row.inputs_codec, original.given))
    if row.kind == "deployed":
        recorded = convert_inputs(flow.function, recorded)
    merged = {**recorded, **request.inputs}
    named = {name: value for name, value in merged.items() if name != "*args"}
    return dict(flow.bind(*merged.get("*args", ()), **named))


def given_value(session: Session, given: Given, *, is_same: bool) -> Encoded:
    """The given outcome in the form that the recorded one has: a model's fields become the model.

    Args:
        is_same: whether the code is what recorded, so that its dataclasses have the same fields.

    Raises:
        KitaruUsageError: it has some of the recorded dataclass's fields, or others.
    """
    encoded = codec.encode(given.override.value)
    recorded = given.recorded.value if given.recorded is not None else None
    if recorded is None or recorded.codec != "tagged" or encoded.codec not in ("json", "str"):
        return encoded
    shape = json.loads(replays.read_value(session.database, recorded))
    if is_same:
        require_fields(given, shape)
    return Encoded("tagged", compact(like(tag(given.override.value), shape)))


def require_fields(given: Given, recorded: Any) -> None:
    value = given.override.value
    if not isinstance(recorded, dict) or recorded.get("$") != "dataclass" or not isinstance(value, dict):
        return
    has, wants = sorted(map(str, value)), sorted(recorded["v"])
    if has != wants:
        kind = recorded["type"].rpartition(":")[2]
        raise KitaruUsageError(
            f"{given.override.written} has the fields {listed(has)}, and {given.key} gave a {kind}: {listed(wants)}",
            hint="give all of them",
        )


def like(value: Any, recorded: Any) -> Any:
    """The JSON value, tagged as the recorded one is where both have the same shape."""
    if isinstance(recorded, dict) and "$" in recorded:
        if isinstance(value, dict) and "$" in value:
            return value
        content = recorded["v"]
        if recorded["$"] == "model" and isinstance(value, dict):
            return {"$": "pydantic", "type": recorded["of"], "v": value, "by": "name"}
        whole = recorded["$"] in ("dataclass", "namedtuple", "object")
        same = type(value) is type(content) and (not whole or value.keys() == content.keys())
        return {**recorded, "v": like(value, content)} if same else value
    if isinstance(recorded, dict) and isinstance(value, dict):
        return {key: like(item, recorded.get(key)) for key, item in value.items()}
    if isinstance(recorded, list) and isinstance(value, list) and recorded:
        return [like(item, recorded[min(at, len(recorded) - 1)]) for at, item in enumerate(value)]
    return value


def given_answer(original: Original, key: str, override: Override) -> Any:
    """
    Raises:
        KitaruWaitValidationError: it does not fit the wait's schema.
    """
    asked: AskedWait = next(wait for wait in original.known.waits if wait.key == key)
    value = as_json({"answer": override.value})["answer"]
    if asked.schema is not None:
        check_answer(dict(asked.schema), value, what=override.written, wants="its schema")
    return value


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


# The record


def new_execution(session: Session, prepared: Prepared) -> NewExecution:
    """The execution that is to be made, of the version or the source that the target says."""
    row, resolved = prepared.original.row, prepared.target.resolved
    options: dict[str, Any] = {"retries": row.retries, "cache": row.cache, "finish_seconds": row.finish_seconds}
    needs = row.needs
    if resolved is not None:
        config = resolved.config
        needs = {"python": config.python, "platform": config.platform, "protocol": config.protocol}
        if not prepared.target.is_same:
            said = config.options
            options = {"retries": said.retries, "cache": said.cache, "finish_seconds": said.finish_timeout}
    # A source execution's own process gives them their types.
    untyped = {"json_inputs": sorted(prepared.request.inputs)} if row.kind == "source" and resolved is None else {}
    asked = {"inputs": prepared.shown_inputs, "replay": prepared.said, "version": prepared.target.name}
    return NewExecution(
        exec_id=new_execution_id(),
        project=row.project,
        flow=row.flow,
        kind="deployed" if resolved is not None else row.kind,
        version=resolved.version.version if resolved is not None else row.version,
        version_row=resolved.row if resolved is not None else None,
        digest=resolved.version.digest if resolved is not None else row.digest,
        inputs=prepared.shown_inputs,
        inputs_codec=prepared.inputs.codec,
        inputs_data=prepared.inputs.data,
        input_digest=json_digest(asked),
        idempotency_key=prepared.request.idempotency_key,
        actor=session.actor,
        needs=needs,
        source=None if resolved is not None else row.source,
        entrypoint=row.entrypoint,
        replay={**prepared.said, **untyped},
        **options,
    )


def plan_of(prepared: Prepared) -> ReplayPlan:
    """What the replay would do, for people and scripts."""
    from kitaru_registry.executions.planned import replay_plan

    return replay_plan(
        prepared.original.row, prepared.original.known, prepared.plan, version=prepared.target.name,
        inputs=prepared.shown_inputs,
    )  # fmt: skip
