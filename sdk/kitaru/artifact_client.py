"""`KitaruClient().artifacts`: what executions produced, and what from what."""

from __future__ import annotations

import builtins
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import PrivateAttr

from kitaru.door import checked, checked_methods
from kitaru_registry.api.artifact_requests import (
    ArtifactQuery,
    GetArtifact,
    GetLineage,
    ListArtifacts,
    ReadArtifact,
    SearchArtifacts,
)
from kitaru_registry.api.execution_requests import GetResult
from kitaru_registry.journal.display import as_json
from kitaru_registry.journal.entries import Encoded
from kitaru_registry.models import Artifact, Execution, Lineage
from kitaru_runner.values import codec
from kitaru_runner.values.pickles import distrust_pickle

if TYPE_CHECKING:
    from kitaru.session import Session

SHOWN_BYTES = 1 << 20
"""A value above this is shown by its size."""


class ArtifactRef(Artifact):
    """An artifact's record, which can be asked for its value."""

    _session: Session = PrivateAttr()

    @checked
    def load(self, *, trust_pickle: bool = False) -> Any:
        """The value.

        Raises:
            KitaruUsageError: another user's home holds it pickled, and it is not to be trusted; or its codec is not
                known here.
            KitaruStateError: only its digest was kept.
            KitaruNotFoundError: its execution's values were deleted.
        """
        return decode(self._session, Encoded(self.codec, self.data()), self.artifact_id, trust_pickle=trust_pickle)

    def data(self) -> bytes:
        """Its encoded bytes, verified; no code is run."""
        return self._session.ask(ReadArtifact(artifact_id=self.artifact_id)).data

    def shown(self) -> Any:
        """The value as JSON, as near as that comes to it; no code is run."""
        if not self.is_kept:
            return None
        if self.size is not None and self.size > SHOWN_BYTES:
            return as_json(self.codec, None, self.size)
        return as_json(self.codec, self.data())


@checked_methods
class Artifacts:
    """Ids are `EXEC/KEY`, `EXEC/KEY:NAME` and `EXEC`; of the execution's, a unique beginning or end is enough."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, artifact_id: str) -> ArtifactRef:
        """
        Raises:
            KitaruNotFoundError: there is none, or its execution's values were deleted.
        """
        return self._bound(self._session.ask(GetArtifact(artifact_id=artifact_id)))

    def list(
        self, exec_id: str, *, name: str | None = None, kind: str | None = None, type: str | None = None,
        tag: str | None = None, producing_call: str | None = None, limit: int | None = None,
    ) -> builtins.list[ArtifactRef]:  # fmt: skip
        """Those of an execution, in recorded order.

        Args:
            kind: `step_output`, `manual`, `answer`, `result`; or a type.
            producing_call: a checkpoint's key.

        Raises:
            KitaruNotFoundError: there is no such execution, or its values were deleted.
        """
        query = ArtifactQuery(name=name, kind=kind, type=type, tag=tag, producing_call=producing_call)
        found = self._session.ask(ListArtifacts(exec_id=exec_id, query=query, limit=limit))
        return [self._bound(artifact) for artifact in found]

    def search(
        self, *, flow: str | None = None, name: str | None = None, kind: str | None = None, type: str | None = None,
        tag: str | None = None, since: datetime | None = None, limit: int = 50,
    ) -> builtins.list[ArtifactRef]:  # fmt: skip
        """Those of all executions of the project, the newest first."""
        query = ArtifactQuery(name=name, kind=kind, type=type, tag=tag, flow=flow, since=since)
        found = self._session.ask(SearchArtifacts(project=self._session.project, query=query, limit=limit))
        return [self._bound(artifact) for artifact in found]

    def lineage(self, artifact_id: str, *, direction: str = "up", depth: int | None = None) -> Lineage:
        """What it was made from (`up`), or what was made from it (`down`), across executions.

        Args:
            depth: how many links away; by default, and at most, 100.

        Raises:
            KitaruNotFoundError: there is no such artifact.
            KitaruUsageError: another direction.
        """
        return self._session.ask(GetLineage(artifact_id=artifact_id, direction=direction, depth=depth))

    def _bound(self, artifact: Artifact) -> ArtifactRef:
        fields = {name: getattr(artifact, name) for name in Artifact.model_fields}
        bound = ArtifactRef.model_construct(**fields)
        bound._session = self._session
        return bound


def decode(session: Session, encoded: Encoded, what: str, *, trust_pickle: bool = False) -> Any:
    """The value; what is pickled in the home of another user only on trust.

    Raises:
        KitaruUsageError: it is pickled, and not to be trusted; or its codec is not known here.
    """
    if not (trust_pickle or session.home.is_own):
        distrust_pickle(encoded, what)
    return codec.decode(encoded)


def result(session: Session, execution: Execution, *, trust_pickle: bool = False) -> Any:
    """The decoded result of a completed execution; see KitaruClient.result."""
    value = session.ask(GetResult(exec_id=execution.exec_id))
    encoded = Encoded(value.codec, value.data)
    return decode(session, encoded, f"the result of {execution.exec_id}", trust_pickle=trust_pickle)
