"""What differs between two snapshots, in words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from kitaru_registry.models import SnapshotConfig

FILES_SHOWN = 10


def changes(
    before: SnapshotConfig, after: SnapshotConfig, *, files_before: Mapping[str, str], files_after: Mapping[str, str]
) -> tuple[str, ...]:
    """`code: flows/review.py`, `wheel: httpx 0.28.1 (was 0.27.0)`, `retries: 3 (was 0)`.

    Args:
        files_before: path to whatever tells two contents apart; both empty where nobody needs to know.
    """
    return (*of_code(files_before, files_after), *of_wheels(before.wheels, after.wheels), *of_settings(before, after))


def of_code(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    words = [f"code: {path}" for path in sorted(after) if path in before and before[path] != after[path]]
    words += [f"code: {path} (new)" for path in sorted(after.keys() - before.keys())]
    words += [f"code: {path} (removed)" for path in sorted(before.keys() - after.keys())]
    yield from words[:FILES_SHOWN]
    if len(words) > FILES_SHOWN:
        yield f"code: {len(words) - FILES_SHOWN} more files"


def of_wheels(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    old, new = releases(before), releases(after)
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            yield f"wheel: {name} (removed)"
        elif name not in old:
            yield f"wheel: {name} {new[name][0]} (new)"
        elif old[name][0] != new[name][0]:
            yield f"wheel: {name} {new[name][0]} (was {old[name][0]})"
        elif old[name][1] != new[name][1]:
            yield f"wheel: {name} {new[name][0]} (other bytes)"


def of_settings(before: SnapshotConfig, after: SnapshotConfig) -> Iterator[str]:
    for what, was, now in (
        ("entrypoint", before.entrypoint, after.entrypoint),
        ("python", before.python, after.python),
        ("platform", before.platform, after.platform),
        ("retries", before.options.retries, after.options.retries),
        ("env", listed(before.options.env), listed(after.options.env)),
        ("pickle", before.options.pickle or "allow", after.options.pickle or "allow"),
        ("divergence", before.options.divergence or "warn", after.options.divergence or "warn"),
        ("journal protocol", before.protocol, after.protocol),
        ("codec", before.codec, after.codec),
    ):
        if was != now:
            yield f"{what}: {now} (was {was})"
    if before.input_schema != after.input_schema:
        yield f"inputs: {listed(parameters(after))} (was {listed(parameters(before))})"
    if before.output_schema != after.output_schema:
        yield "output: another type"


def releases(wheels: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Name to release and digest, from the wheels' file names: `name-release-...whl`."""
    found = {}
    for filename, digest in wheels.items():
        name, release, *_ = filename.split("-")
        found[re.sub(r"[-_.]+", "-", name).lower()] = (release, digest)
    return found


def parameters(config: SnapshotConfig) -> tuple[str, ...]:
    return tuple(config.input_schema.get("properties", {}))


def listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none"
