"""Every public function and method, with any arguments: a value or one clear error; never a fault of ours.

What may come out is a value, a KitaruError, or a TypeError for a call that does not fit the signature. What each
example has left is looked at too: the home opens, and its executions can be listed.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from bad_calls import check
from bad_words import BAD_TEXT
from odd_records import write_odd_records, write_versions
from queues import Queue

from kitaru import FlowHandle, KitaruClient, KitaruError, testing
from kitaru.artifact_client import ArtifactRef
from kitaru.door import TAKEN, kinds_of
from kitaru_registry.errors import KitaruNotFoundError, KitaruUsageError
from kitaru_registry.home import Home
from kitaru_registry.models import ExecutionId

EXAMPLES = 250 if os.environ.get("KITARU_SOAK") else 12
"""Of each method."""

PARTS = ("executions", "deployments", "tags", "waits", "artifacts", "runner")

NOT_CALLED = {
    "runner.start": "starts a process",
    "runner.stop": "ends a process",
    "runner.run": "is a runner until it is told to end",
}
"""Public, and not called here, and why."""


def public(owner: type | object) -> dict[str, Any]:
    """Methods by name."""
    kind = owner if isinstance(owner, type) else type(owner)
    own = {
        name: each
        for name, each in vars(kind).items()
        if inspect.isfunction(each) and not name.startswith(("_", "model_"))
    }
    return {name: each if isinstance(owner, type) else getattr(owner, name) for name, each in own.items()}


def part_methods() -> list[str]:
    names = {"KitaruClient": KitaruClient, "FlowHandle": FlowHandle, "ArtifactRef": ArtifactRef}
    parts = {name: type(getattr(KitaruClient(Home(Path("never-made"))), name)) for name in PARTS}
    return [f"{owner}.{name}" for owner, kind in {**names, **parts}.items() for name in public(kind)]


METHODS = [name for name in part_methods() if name not in NOT_CALLED]


class Ground:
    """A home and a project in a folder of the module's own, which everything is called on."""

    def __init__(self, home: Home, ids: list[str]) -> None:
        self.home, self.client = home, KitaruClient(home)
        self.ended_ids = [each.exec_id for each in self.client.executions.list(limit=500) if each.ended_at is not None]
        # What is running is waited for where it is to end, and no process has it.
        self.ids = [exec_id for exec_id in ids if self.client.executions.status(exec_id) not in ("running", "pending")]

    @property
    def with_calls(self) -> str:
        """Completed, with calls and artifacts."""
        return next(each.exec_id for each in self.client.executions.list(status="completed", limit=500)[::-1][1:])

    def method(self, name: str) -> Callable[..., Any]:
        owner, _, name = name.partition(".")
        if owner == "KitaruClient":
            return getattr(self.client, name)  # type: ignore[no-any-return]
        if owner == "FlowHandle":
            return getattr(self.ended, name)  # type: ignore[no-any-return]
        if owner == "ArtifactRef":
            return getattr(self.client.artifacts.get(f"{self.with_calls}/odd"), name)  # type: ignore[no-any-return]
        return getattr(getattr(self.client, owner), name)  # type: ignore[no-any-return]

    @property
    def ended(self) -> FlowHandle:
        """Nobody waits for it, whatever the time-out."""
        return self.client.executions.handle(self.with_calls)

    def check(self) -> None:
        """Nothing that was called has broken what is there."""
        with KitaruClient(self.home) as another:
            assert len(another.executions.list(limit=500)) >= len(self.ids)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("arguments")
    (folder / "project").mkdir()
    (folder / "project" / "kitaru.toml").write_text("[runner]\nautostart = false\n")
    (folder / "project" / "a-file").touch()
    with pytest.MonkeyPatch.context() as patch, testing.home() as client:
        patch.setenv("KITARU_ACTOR", "ada@analytical")
        patch.chdir(folder / "project")
        queue = Queue(client.database, client.writer)
        write_versions(queue, str(folder / "project"))
        yield Ground(client.home, write_odd_records(queue))


def test_every_part_of_the_client_is_walked() -> None:
    assert set(NOT_CALLED) <= set(part_methods())
    assert {name for name, each in vars(KitaruClient).items() if isinstance(each, cached_property)} == set(PARTS)


def test_every_argument_of_a_method_is_of_a_kind_that_is_checked() -> None:
    """Or of any."""
    kinds = {
        kind
        for owner in (KitaruClient, FlowHandle, *(type(getattr(KitaruClient(), name)) for name in PARTS))
        for method in public(owner).values()
        for parameter in inspect.signature(method).parameters.values()
        for kind in kinds_of(parameter)
    }

    assert kinds <= {*TAKEN, "None"}


@pytest.mark.parametrize("name", METHODS)
def test_any_arguments_give_a_value_or_one_error(ground: Ground, name: str) -> None:
    function = ground.method(name)
    examples = EXAMPLES if inspect.signature(function).parameters else 1

    ids = ground.ended_ids if name == "executions.follow" else ground.ids

    check(function, ids, after=ground.check, examples=examples)


@pytest.mark.parametrize("timeout", [float("nan"), 10**400, "1", True])
def test_a_time_out_that_is_none_is_refused_and_not_waited_for(ground: Ground, timeout: Any) -> None:
    # One of its own: any arguments may have cancelled the others.
    made = Queue(ground.client.database, ground.client.writer).new(status="waiting")
    waiting = ground.client.executions.handle(made.exec_id)

    for wait in (waiting.wait, waiting.until_settled):
        with pytest.raises(KitaruUsageError, match="timeout= is"):
            wait(timeout)


def test_an_execution_that_is_not_there_is_not_found_by_its_whole_id_either(ground: Ground) -> None:
    for ask in (ground.client.executions.status, ground.client.executions.brief, ground.client.runner.look_after):
        with pytest.raises(KitaruNotFoundError, match="there is no execution"):
            ask(ExecutionId(str(UUID(int=0))))


@pytest.mark.parametrize(
    "path", ["a\0b", "x" * 300, "x/" * 3_000, "\ud800", "a-file", "a-file/below", BAD_TEXT, "below"]
)
def test_a_client_of_any_folder_answers_or_gives_one_error(ground: Ground, path: str) -> None:
    for given in ({"home": Path(path)}, {"home": Home(Path(path))}, {"home": ground.home, "cwd": Path(path)}):
        try:
            with KitaruClient(**given) as client:  # type: ignore[arg-type]
                found = client.executions.list()
        except KitaruError:
            continue
        assert found is not None
