"""What a deploy says has changed."""

from __future__ import annotations

from kitaru.changes import FILES_SHOWN, changes
from kitaru_registry.models import Digest, FlowOptions, SnapshotConfig


def config(**different: object) -> SnapshotConfig:
    same: dict[str, object] = {
        "flow": "review",
        "entrypoint": "flows/review.py:review",
        "options": FlowOptions(),
        "input_schema": {"type": "object", "properties": {"topic": {"type": "string"}}},
        "output_schema": {"type": "string"},
        "python": "3.11",
        "platform": "linux-x86_64",
        "protocol": 1,
        "codec": 1,
        "kitaru": "0.1.0",
        "code": Digest("sha256:code"),
        "lock": Digest("sha256:lock"),
        "wheels": {"httpx-0.27.0-py3-none-any.whl": "sha256:a", "numpy-2.0.0-cp311-cp311-linux_x86_64.whl": "sha256:b"},
    }
    return SnapshotConfig.model_validate(same | different)


def said(before: SnapshotConfig, after: SnapshotConfig) -> tuple[str, ...]:
    return changes(before, after, files_before={}, files_after={})


def test_nothing_has_changed_between_equals() -> None:
    assert said(config(), config()) == ()


def test_files_are_named_with_what_became_of_them() -> None:
    before = {"a.py": "1", "b.py": "1", "c.py": "1"}
    after = {"a.py": "2", "b.py": "1", "d.py": "1"}

    assert changes(config(), config(), files_before=before, files_after=after) == (
        "code: a.py",
        "code: d.py (new)",
        "code: c.py (removed)",
    )


def test_many_files_are_counted() -> None:
    after = {f"{number:03}.py": "1" for number in range(100)}

    words = changes(config(), config(), files_before={}, files_after=after)

    assert len(words) == FILES_SHOWN + 1
    assert words[-1] == "code: 90 more files"


def test_wheels_are_named_with_their_releases() -> None:
    after = {
        "httpx-0.28.1-py3-none-any.whl": "sha256:c",
        "anyio-4.0.0-py3-none-any.whl": "sha256:d",
    }

    assert said(config(), config(wheels=after)) == (
        "wheel: anyio 4.0.0 (new)",
        "wheel: httpx 0.28.1 (was 0.27.0)",
        "wheel: numpy (removed)",
    )


def test_other_bytes_of_one_release_are_said() -> None:
    after = dict(config().wheels) | {"httpx-0.27.0-py3-none-any.whl": "sha256:z"}

    assert said(config(), config(wheels=after)) == ("wheel: httpx 0.27.0 (other bytes)",)


def test_settings_are_said_with_what_they_were() -> None:
    after = config(
        python="3.12",
        options=FlowOptions(retries=2, env=("TOKEN",), pickle="forbid"),
        input_schema={"type": "object", "properties": {"topic": {"type": "string"}, "count": {"type": "integer"}}},
        output_schema=None,
    )

    assert said(config(), after) == (
        "python: 3.12 (was 3.11)",
        "retries: 2 (was 0)",
        "env: TOKEN (was none)",
        "pickle: forbid (was allow)",
        "inputs: topic, count (was topic)",
        "output: another type",
    )
