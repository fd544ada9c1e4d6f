"""A deployed flow's process and the runner's side of it, both real, without the deploy and the environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from transcripts import PATIENCE_SECONDS, Runner, runner_for

from kitaru_registry.executions import reading, waits
from kitaru_registry.executions.logs import read_log
from kitaru_registry.home import Home
from kitaru_registry.journal.log_lines import log_file
from kitaru_registry.journal.messages import PROTOCOL
from kitaru_registry.models import Execution, Wait


class DeployedFlow:
    """One execution, attempt after attempt."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner

    def attempt(self) -> str:
        """Execute it until its process ends; its status then."""
        descriptors = self.runner.connect()
        command = [sys.executable, "-s", "-P", "-m", "kitaru_runner.child", str(descriptors[0]), str(os.getpid())]
        log = log_file(self.runner.place.home, self.runner.exec_id)
        with log.open("ab") as output:
            child = subprocess.Popen(
                [*command, *map(str, descriptors[1:])], cwd=self.runner.folder, pass_fds=descriptors, stdout=output,
                stderr=output, start_new_session=True,
            )  # fmt: skip
        for descriptor in descriptors:
            os.close(descriptor)
        self.exit_code = child.wait(PATIENCE_SECONDS)
        return self.runner.join()

    @property
    def execution(self) -> Execution:
        return reading.get_execution(self.runner.place.database, self.runner.exec_id)

    @property
    def result(self) -> Any:
        return self.execution.result

    @property
    def failure(self) -> tuple[str, str]:
        """Type and message."""
        error = self.execution.error
        assert error is not None
        return error.type, error.message

    @property
    def waits(self) -> list[Wait]:
        return waits.list_waits(self.runner.place.database, exec_id=self.runner.exec_id)

    def answer(self, name: str, value: object) -> None:
        self.runner.do("answer", {"key": name, "value": value})

    @property
    def log(self) -> str:
        path = log_file(self.runner.place.home, self.runner.exec_id)
        return "\n".join(entry.message for entry in read_log(path))


@contextmanager
def deployed(flows: Path, name: str, folder: Path, inputs: Mapping[str, Any] | None = None) -> Iterator[DeployedFlow]:
    """An execution of the flow of that name in the file `flows`, in a home in that folder."""
    line = {
        "protocol": PROTOCOL, "exec_id": str(uuid4()), "flow": name, "entrypoint": f"flows.py:{name}",
        "inputs": json.loads(json.dumps(inputs or {})),
    }  # fmt: skip
    with runner_for(Home(folder / "home"), line) as runner:
        runner.folder.mkdir(parents=True)
        (runner.folder / "flows.py").write_bytes(flows.read_bytes())
        yield DeployedFlow(runner)
