"""What flow packed code has, as a process says that imports it in its locked environment (describe.py).

What deploy imports is what will run, and a missing module is found now.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from kitaru_registry import errors
from kitaru_registry.errors import KitaruDeployError, KitaruError
from kitaru_runner.host.own_description import another_day, require_own

IMPORT_SECONDS = 300


@dataclass(frozen=True)
class FlowDescription:
    flow: str
    retries: int
    cache: bool | None
    finish_timeout: float | None
    """Seconds."""
    input_schema: dict[str, Any]
    output_schema: dict[str, Any] | None
    protocol: int
    codec: int


def clean_environment(names: Mapping[str, str]) -> dict[str, str]:
    """PATH, HOME, LANG and what is given; nothing else of this process's environment."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1", **names}


def describe(python: Path, code: Path, entrypoint: str, *, env: Mapping[str, str]) -> FlowDescription:
    """The flow at `entrypoint` in the unpacked `code`, as `python` imports it.

    It is imported twice at once, the second time with another HOME and at another time of day: what differs then would
    differ on the next machine too.

    Raises:
        KitaruDeployError: the import failed (`detail` is the user's traceback), or what it says is not the code's own.
        KitaruNotFoundError, KitaruUsageError: there is no such flow there.
    """
    seen = clean_environment(env)
    with (
        tempfile.TemporaryDirectory(prefix="kitaru-home-") as elsewhere,
        Importing(python, code, entrypoint, seen) as first,
        Importing(python, code, entrypoint, {**seen, "HOME": elsewhere, "TZ": another_day()}) as second,
    ):
        described, again = first.answer(), second.answer_or_error()
    if "error" in described:
        # Alone: an import may have found in use what the other had.
        with Importing(python, code, entrypoint, seen) as alone:
            described = alone.answer()
    if "error" in described:
        raise as_error(described["error"], entrypoint, f"{code}{os.sep}")
    require_own(entrypoint, described, again, seen)
    return FlowDescription(**described)


class Importing:
    """A process that imports the code, and says what flow is there."""

    def __init__(self, python: Path, code: Path, entrypoint: str, env: Mapping[str, str]) -> None:
        self._entrypoint = entrypoint
        # A file: who fills a pipe stands still until somebody reads.
        self._answer = os.fdopen(os.memfd_create("description"), "w+")
        told = self._answer.fileno()
        command = [str(python), "-s", "-P", "-m", "kitaru_runner.child.describe", str(code), entrypoint, str(told)]
        self._process = subprocess.Popen(
            command, pass_fds=(told,), env=dict(env), cwd=code, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._answer.close()

    def answer(self) -> dict[str, Any]:
        """
        Raises:
            KitaruDeployError: it takes too long, or has ended its process.
        """
        try:
            printed, _ = self._process.communicate(timeout=IMPORT_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise KitaruDeployError(
                f"importing {self._entrypoint} took more than {IMPORT_SECONDS} s",
                hint="do slow work in the flow, not at import",
            ) from error
        self._answer.seek(0)
        said = self._answer.read()
        if not said:
            raise KitaruDeployError(
                f"importing {self._entrypoint} ended its process with exit code {self._process.returncode}",
                hint="a module must not call sys.exit() or os._exit() when it is imported",
                detail=printed,
            )
        found: dict[str, Any] = json.loads(said)
        return found

    def answer_or_error(self) -> dict[str, Any]:
        try:
            return self.answer()
        except KitaruDeployError:
            return {"error": {}}


def as_error(described: Mapping[str, Any], entrypoint: str, folder: str) -> KitaruError:
    if described["kind"] == "kitaru":
        kind = getattr(errors, described["type"])
        raised: KitaruError = kind(described["message"].replace(folder, ""), hint=described["hint"])
        return raised
    detail = described["traceback"].replace(folder, "")
    variable = described.get("variable")
    if variable is not None:
        return KitaruDeployError(
            f"{entrypoint} reads the environment variable {variable} when it is imported, and a deploy does not "
            "pass it on",
            hint=f'declare it in kitaru.toml: [flows.{entrypoint.rpartition(":")[2]}] env = ["{variable}"], '
            "or read it inside the flow",
            detail=detail,
        )
    missing = described.get("module")
    hint = f"declare what brings {missing} in the flow's dependencies" if missing else "mend it, and deploy again"
    return KitaruDeployError(
        f"{entrypoint} cannot be imported: {described['type']}: {described['message'].replace(folder, '')}",
        hint=hint,
        detail=detail,
        module=missing,
    )
