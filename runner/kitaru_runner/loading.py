"""`load` within a flow: artifacts of other executions, which may change between attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kitaru_registry.clock import now_us
from kitaru_registry.errors import KitaruFencedError, KitaruNotFoundError, KitaruStateError
from kitaru_runner import codec
from kitaru_runner.arguments import digest_inputs
from kitaru_runner.context import Branch
from kitaru_runner.failures import describe_failure, rebuild
from kitaru_runner.pickles import distrust_pickle, refuse_pickle
from kitaru_runner.protocol import Encoded, Entry, Loaded

if TYPE_CHECKING:
    from kitaru_runner.engine import Engine


def load(branch: Branch, exec_id: str, name: str, *, index: int | None = None, trust_pickle: bool = False) -> Any:
    """The artifact. In the flow's body it is recorded, so that every attempt sees the same; inside a checkpoint it goes
    into the checkpoint's outcome.

    It has no place among the calls of its scope: a journal that was written before loads were recorded fits too.
    """
    engine = branch.engine
    engine.check_halted()
    if branch.call is not None:
        loaded = fetch(engine, exec_id, name, index)
        branch.left.loaded.append(loaded.artifact_id)
        return given(engine, decoded(engine, loaded, trust_pickle), loaded.value, loaded.artifact_id)
    call = branch.call_without_place(f"load:{name}")
    asked = {"exec_id": exec_id, "name": name, "index": index}
    inputs = digest_inputs(asked)
    entry = engine.recorded.find(call, inputs)
    if entry is not None:
        engine.warn_of_other_inputs(call, entry, inputs, lambda: asked)
        if entry.error is not None:
            raise rebuild(entry.error)
        value: Encoded = entry.value or engine.guard(lambda: engine.journal.value(entry))
        return given(engine, codec.decode(value), value, entry.parents[0])
    try:
        loaded = fetch(engine, exec_id, name, index)
    except KitaruFencedError:
        raise
    except (KitaruNotFoundError, KitaruStateError) as error:
        # The flow may catch it, and has to go the same way when the artifact is there by then.
        described = describe_failure(error, checkpoint=call.key)
        engine.commit([Entry("n", call.key, now_us(), error=described, inputs=inputs)])
        raise rebuild(described) from None
    found = decoded(engine, loaded, trust_pickle)
    parents = (loaded.artifact_id,)
    engine.commit([Entry("n", call.key, now_us(), value=loaded.value, inputs=inputs, parents=parents)])
    return given(engine, found, loaded.value, loaded.artifact_id)


def fetch(engine: Engine, exec_id: str, name: str, index: int | None) -> Loaded:
    loaded: Loaded = engine.guard(lambda: engine.journal.load(exec_id, name, index))
    return loaded


def decoded(engine: Engine, loaded: Loaded, trust_pickle: bool) -> Any:
    if not engine.opening.may_pickle:
        refuse_pickle(loaded.value, loaded.artifact_id)
    if not (loaded.is_ours or trust_pickle):
        distrust_pickle(loaded.value, loaded.artifact_id)
    return codec.decode(loaded.value)


def given(engine: Engine, value: Any, encoded: Encoded, artifact_id: str) -> Any:
    engine.lineage.note(value, artifact_id, len(encoded.data))
    return value
