"""`KitaruClient`: what can be asked of a home, from any program."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kitaru.door import checked, checked_methods
from kitaru.session import Session
from kitaru_registry.home import Home

# A deployed flow's file may import this too: what its lean environment lacks is imported at need.
if TYPE_CHECKING:
    from kitaru.artifact_client import Artifacts
    from kitaru.deployments import Deployments, Tags
    from kitaru.executions import Executions, Waits
    from kitaru.runners import Runners
    from kitaru_registry.models import Deleted, DoctorCheck, Execution, ExecutionId, HomeStatus
    from kitaru_registry.records.migrated import Migrated


@checked_methods
class KitaruClient(Session):
    """A home and a project. What it opened is closed when it goes, or at the end of a `with` block.

    Args:
        home: by default what `KITARU_HOME` names, else `~/.kitaru`.
        project: by default what `KITARU_PROJECT` or the nearest kitaru.toml says.
        cwd: where kitaru.toml is looked for; by default the present folder.
    """

    @checked
    def __init__(self, home: Home | Path | None = None, project: str | None = None, *, cwd: Path | None = None) -> None:
        super().__init__(home, project, cwd=cwd)

    @cached_property
    def deployments(self) -> Deployments:
        from kitaru.deployments import Deployments

        return Deployments(self)

    @cached_property
    def tags(self) -> Tags:
        from kitaru.deployments import Tags

        return Tags(self)

    @cached_property
    def executions(self) -> Executions:
        from kitaru.executions import Executions

        return Executions(self)

    @cached_property
    def artifacts(self) -> Artifacts:
        from kitaru.artifact_client import Artifacts

        return Artifacts(self)

    @cached_property
    def waits(self) -> Waits:
        from kitaru.executions import Waits

        return Waits(self)

    @cached_property
    def runner(self) -> Runners:
        from kitaru.runners import Runners

        return Runners(self)

    def load(self, exec_id: str, name: str, *, index: int | None = None, trust_pickle: bool = False) -> Any:
        """See kitaru.load."""
        from kitaru.artifact_client import decode
        from kitaru_registry.api.artifact_requests import PickArtifact
        from kitaru_registry.journal.entries import Encoded

        artifact, value = self.ask(PickArtifact(exec_id=exec_id, name=name, index=index))
        encoded = Encoded(value.codec, value.data)
        return decode(self, encoded, artifact.artifact_id, trust_pickle=trust_pickle)

    def result(self, execution: Execution, *, trust_pickle: bool = False) -> Any:
        """The decoded result of a completed execution.

        Raises:
            KitaruNotFoundError: its values were deleted.
            KitaruUsageError: another user's home holds it pickled, and it is not to be trusted.
        """
        from kitaru.artifact_client import result

        return result(self, execution, trust_pickle=trust_pickle)

    def look_after(self, exec_id: ExecutionId) -> None:
        """See to it that somebody works on an open, deployed execution."""
        from kitaru.working import look_after

        look_after(self, exec_id)

    def shown(self, execution: Execution) -> Execution:
        """The record, which can be acted on."""
        from kitaru.bound import bind

        return bind(self, self.executions, execution)

    def gc(self) -> Deleted:
        """Apply `[retention]` now, and delete files in `values/` that nothing has named for a day."""
        from kitaru.working import remember_retention
        from kitaru_registry.executions import retention
        from kitaru_runner.host.retention import apply

        remember_retention(self)
        count = apply(self.database)
        return retention.collect(self.database).model_copy(update={"expired": count})

    def status(self) -> HomeStatus:
        """Flows, tags and versions of the project, and what is open."""
        from kitaru.overview import status

        return status(self)

    def migrate(self) -> Migrated:
        """Make the record in the database that kitaru.toml names, or bring it to this release's schema."""
        from kitaru_registry.database.migrating import migrate

        return migrate(self.home)

    def doctor(self) -> list[DoctorCheck]:
        """Whether this machine and this home are fit, check by check."""
        from kitaru.overview import doctor

        return doctor(self)
