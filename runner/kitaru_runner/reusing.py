"""What may be used in a call's place, or must be: what a cache, a replay and a guard say where nothing is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from kitaru_registry.clock import now_us
from kitaru_registry.errors import KitaruError, KitaruStateError, KitaruUsageError
from kitaru_runner import codec
from kitaru_runner.context import Call
from kitaru_runner.failures import ExecutionCancelled
from kitaru_runner.protocol import Encoded, Entry
from kitaru_runner.specs import Work
from kitaru_runner.trying import Executed, cached_entry

if TYPE_CHECKING:
    from kitaru_runner.engine import Engine


def reusable(engine: Engine, call: Call, work: Work, inputs: bytes, key: bytes | None) -> Executed | None:
    """The outcome of another execution's same call, under that cache key; None: execute it.

    Raises:
        ExecutionCancelled: only what is recorded may be used; the execution has ended here.
        KitaruStateError: `replay="never"`, in a replay that has no outcome of it.
    """
    if engine.opening.replay is not None:
        permit(engine, call)
        if work.spec.replay == "never":
            refuse_guarded(engine, call)
        if engine.opening.replay.get("from") == call.key:
            return None  # Asked for by name; the cache has what the original recorded.
    if key is None:
        return None
    found = engine.guard(lambda: engine.journal.cached(key))
    if found is None:
        return None
    return cached_entry(call, work.spec, inputs, *found)


def permit(engine: Engine, call: Call) -> None:
    """Let a call be made that is not recorded.

    Raises:
        ExecutionCancelled: only what is recorded may be used; the execution has ended here.
    """
    if engine.opening.replay is not None and engine.opening.replay.get("only_recorded"):
        engine.guard(lambda: engine.journal.stop(call.key))
        engine.halt(ExecutionCancelled())
        engine.check_halted()


def refuse_guarded(engine: Engine, call: Call) -> NoReturn:
    # Recorded, so that an outcome can be given for this call in a replay of this replay.
    if not engine.recorded.has(f"{call.key}!guarded"):
        said = Entry("d", f"{call.key}!guarded", now_us(), metadata={
            "warning": f'{call.key} is guarded by replay="never", and was not executed', "place": call.place,
        })  # fmt: skip
        engine.recorded.add(said)
        engine.commit([said])
    of = (engine.opening.replay or {}).get("of")
    raise KitaruStateError(
        f'checkpoint {call.key} is guarded by replay="never", and execution {of} has no outcome of it',
        hint=f"give one: kitaru executions replay {engine.exec_id} --overrides '{{\"checkpoint.{call.key}\": ...}}'",
    )


def decode_given(value: Encoded, key: str) -> Any:
    """What somebody wrote in place of an outcome, as the type that the recorded one had.

    Raises:
        KitaruUsageError: it is none of that type.
    """
    try:
        return codec.decode(value)
    except KitaruError:
        raise
    except Exception as error:  # whatever a type of the user's says of what it cannot be made of
        said = f"{type(error).__name__}: {error}"
        raise KitaruUsageError(f"what was given for checkpoint.{key} does not fit: {said}") from error
