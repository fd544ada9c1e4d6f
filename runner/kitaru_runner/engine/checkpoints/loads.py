"""`load` within a flow: artifacts of other executions, which may change between attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kitaru_registry.clock import now_us
from kitaru_registry.errors import KitaruFencedError, KitaruNotFoundError, KitaruStateError
from kitaru_registry.journal.entries import Encoded, Entry, Kind, Loaded
from kitaru_runner.engine.checkpoints.other_arguments import check_arguments
from kitaru_runner.engine.core.calls import Branch
from kitaru_runner.values import codec
from kitaru_runner.values.arguments import digest_inputs
from kitaru_runner.values.failures import describe_failure, rebuild
from kitaru_runner.values.pickles import distrust_pickle, refuse_pickle

if TYPE_CHECKING:
    from kitaru_runner.engine.core.attempt import Attempt


def load(branch: Branch, exec_id: str, name: str, *, index: int | None = None, trust_pickle: bool = False) -> Any:
    """The artifact. In the flow's body it is recorded, so that every attempt sees the same; inside a checkpoint it goes
    into the checkpoint's outcome.

    It has no place among the calls of its scope: a journal that was written before loads were recorded fits too.
    """
    attempt = branch.attempt
    attempt.check_halted()
    if branch.call is not None:
        loaded = fetch(attempt, exec_id, name, index)
        branch.left.loaded.append(loaded.artifact_id)
        return given(attempt, decoded(attempt, loaded, trust_pickle), loaded.value, loaded.artifact_id)
    call = branch.call_without_place(f"load:{name}")
    asked = {"exec_id": exec_id, "name": name, "index": index}
    inputs = digest_inputs(asked)
    entry = attempt.recorded.find(call, inputs)
    if entry is not None:
        check_arguments(attempt, call, entry, inputs, lambda: asked)
        if entry.error is not None:
            raise rebuild(entry.error)
        value: Encoded = entry.value or attempt.guard(lambda: attempt.journal.value(entry))
        return given(attempt, codec.decode(value), value, entry.parents[0])
    try:
        loaded = fetch(attempt, exec_id, name, index)
    except KitaruFencedError:
        raise
    except (KitaruNotFoundError, KitaruStateError) as error:
        # The flow may catch it, and has to go the same way when the artifact is there by then.
        described = describe_failure(error, checkpoint=call.key)
        attempt.commit([Entry(Kind.NOTE, call.key, now_us(), error=described, inputs=inputs)])
        raise rebuild(described) from None
    found = decoded(attempt, loaded, trust_pickle)
    parents = (loaded.artifact_id,)
    attempt.commit([Entry(Kind.NOTE, call.key, now_us(), value=loaded.value, inputs=inputs, parents=parents)])
    return given(attempt, found, loaded.value, loaded.artifact_id)


def fetch(attempt: Attempt, exec_id: str, name: str, index: int | None) -> Loaded:
    loaded: Loaded = attempt.guard(lambda: attempt.journal.load(exec_id, name, index))
    return loaded


def decoded(attempt: Attempt, loaded: Loaded, trust_pickle: bool) -> Any:
    if not attempt.opening.may_pickle:
        refuse_pickle(loaded.value, loaded.artifact_id)
    if not (loaded.is_ours or trust_pickle):
        distrust_pickle(loaded.value, loaded.artifact_id)
    return codec.decode(loaded.value)


def given(attempt: Attempt, value: Any, encoded: Encoded, artifact_id: str) -> Any:
    attempt.lineage.note(value, artifact_id, len(encoded.data))
    return value
