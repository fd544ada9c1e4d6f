"""From a PEP 751 lock to one artefact per package for one Python minor on this platform: what uv would install."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName, default_environment
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import platform_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from kitaru_registry.errors import KitaruDeployError
from kitaru_registry.models import Digest
from kitaru_registry.snapshots.wheel_order import tags_in_order

KNOWN_MAJOR, KNOWN_MINOR = 1, 0
"""Of `lock-version`."""
CHECKED_BY_PIP = ("sha256", "sha512", "sha384")


@dataclass(frozen=True)
class Published:
    """A wheel that somebody published: used as it is."""

    filename: str
    """As it was published, where the lock tells."""
    hashes: Mapping[str, str]
    """Algorithm to hex digits; empty where the index tells none."""
    url: str | None
    path: Path | None

    @property
    def digest(self) -> Digest | None:
        return Digest(f"sha256:{self.hashes['sha256']}") if "sha256" in self.hashes else None


@dataclass(frozen=True)
class Folder:
    """A local package: built from a clean copy."""

    path: Path


@dataclass(frozen=True)
class Archive:
    """A local source archive."""

    path: Path
    hashes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Remote:
    """A source archive or a commit elsewhere, as a line of a requirements file; or a part of a local archive."""

    requirement: str
    archive: Archive | None = None
    """The local one that it is a part of."""


@dataclass(frozen=True)
class Picked:
    name: str
    """Normalised."""
    version: str | None
    """None where only a build will tell."""
    artefact: Published | Folder | Archive | Remote


def select(
    pylock: Mapping[str, Any],
    *,
    base: Path,
    python: str,
    label: str = "the lock",
    from_source: Callable[[str], bool] = lambda _: False,
) -> list[Picked]:
    """The packages of a PEP 751 lock that CPython `python` on this platform installs, by name.

    No extra is chosen, and of the dependency groups those that the lock itself calls its defaults.

    Args:
        base: the folder that relative paths start from.
        python: `3.11`, or `3.11.7` where markers must see the patch release.
        label: how messages name the lock.
        from_source: whether a package must be built although it has wheels.

    Raises:
        KitaruDeployError: it is no such lock, is not for this Python or machine, or a package has nothing that fits.
    """
    try:
        return _select(pylock, base=base, python=python, label=label, from_source=from_source)
    except (InvalidMarker, UndefinedComparison, UndefinedEnvironmentName, InvalidSpecifier, InvalidVersion) as error:
        raise _no_lock(label, str(error)) from error
    except KeyError as error:
        raise _no_lock(label, f"it has an entry without {error.args[0]}") from error
    except (TypeError, AttributeError, ValueError) as error:
        raise _no_lock(label, "it has a value of another form than it must have") from error


def later_format(pylock: Mapping[str, Any]) -> str | None:
    """The lock's `lock-version`, if it is of a later minor than is known here: it may say more than is read."""
    written = Version(str(pylock.get("lock-version", "1.0")))
    return str(written) if (written.major, written.minor) > (KNOWN_MAJOR, KNOWN_MINOR) else None


def check_python(requires: str | None, python: str, *, label: str) -> None:
    """Raise unless `requires-python` admits `python`; of a bare minor, some release of it."""
    if requires is None or _admits(requires, python, label=label):
        return
    minor = ".".join(python.split(".")[:2])
    if _admits(requires, minor, label=label):
        raise KitaruDeployError(
            f"{label} needs Python {requires}, and this machine has {python}",
            hint=f"install one that fits: uv python install {minor}",
        )
    raise KitaruDeployError(
        f"{label} needs Python {requires}, and this flow is for {minor}",
        hint='set `python = "3.N"` under [flows.NAME] in kitaru.toml',
    )


def normal_name(name: str) -> str:
    """A distribution's name as indexes compare it: `Typing_Extensions` is `typing-extensions`."""
    return canonicalize_name(name)


def wheel_version(filename: str) -> str:
    return str(parse_wheel_filename(filename)[1])


def marker_environment(python: str) -> dict[str, str]:
    minor = ".".join(python.split(".")[:2])
    # A bare minor stands for its first release, as in uv: a backport that later releases do not need does no harm.
    full = python if python != minor else f"{minor}.0"
    chosen = {"python_version": minor, "python_full_version": full, "implementation_version": full}
    return {**{name: str(value) for name, value in default_environment().items()}, **chosen}


def _select(
    pylock: Mapping[str, Any], *, base: Path, python: str, label: str, from_source: Callable[[str], bool]
) -> list[Picked]:
    environment = marker_environment(python)
    _check_fits(pylock, environment, python=python, label=label)
    seen = {**environment, "extras": frozenset(), "dependency_groups": frozenset(pylock.get("default-groups", ()))}
    ranks = {tag: rank for rank, tag in enumerate(tags_in_order(_numbers(python), platform_tags()))}
    picked: dict[str, Picked] = {}
    for package in pylock.get("packages", ()):
        if not _holds(package.get("marker"), seen):
            continue
        check_python(package.get("requires-python"), python, label=f"{package['name']} in {label}")
        built = from_source(canonicalize_name(package["name"]))
        choice = _pick({**package, "wheels": ()} if built else package, base=base, ranks=ranks, python=python)
        if choice.name in picked:
            raise KitaruDeployError(
                f"{label} has two {choice.name} for CPython {python} on this platform", hint="lock it again"
            )
        picked[choice.name] = choice
    return [picked[name] for name in sorted(picked)]


def _check_fits(pylock: Mapping[str, Any], environment: Mapping[str, str], *, python: str, label: str) -> None:
    """Raise if the lock says that it is not for this reader, Python or machine."""
    written = Version(str(pylock.get("lock-version", "1.0")))
    if written.major != KNOWN_MAJOR:
        raise KitaruDeployError(
            f"{label} has lock-version {written}, and this Kitaru reads {KNOWN_MAJOR}.x",
            hint="upgrade Kitaru, or lock again with a tool that writes 1.0",
        )
    check_python(pylock.get("requires-python"), python, label=label)
    environments = pylock.get("environments", ())
    if environments and not any(_holds(marker, environment) for marker in environments):
        raise KitaruDeployError(
            f"{label} is for other machines than this one: {' or '.join(environments)}",
            hint="lock again for this one too, or deploy on one of those",
        )


def _no_lock(label: str, why: str) -> KitaruDeployError:
    return KitaruDeployError(f"{label} is not a lock by PEP 751: {why}", hint="lock again with the tool that wrote it")


def _holds(marker: str | None, environment: Mapping[str, Any]) -> bool:
    return marker is None or Marker(marker).evaluate(dict(environment), context="lock_file")


def _admits(requires: str, python: str, *, label: str) -> bool:
    try:
        specifiers = SpecifierSet(requires)
    except InvalidSpecifier as error:
        raise KitaruDeployError(
            f"{label} needs Python {requires!r}, which is no specifier of versions", hint='write it as ">=3.11"'
        ) from error
    minor = ".".join(python.split(".")[:2])
    # 99: a project that needs 3.11.4 is one for 3.11, on a machine that has it.
    releases = [python] if python != minor else [f"{minor}.{patch}" for patch in (0, 99)]
    return any(specifiers.contains(release.rstrip("+"), prereleases=True) for release in releases)


def _numbers(python: str) -> tuple[int, int]:
    major, minor = python.split(".")[:2]
    return int(major), int(minor)


def _pick(package: Mapping[str, Any], *, base: Path, ranks: Mapping[str, int], python: str) -> Picked:
    name = canonicalize_name(package["name"])
    wheels = [_published(wheel, base) for wheel in package.get("wheels", ())]
    fitting = [(rank, -number) for number, wheel in enumerate(wheels) if (rank := _rank(wheel, ranks)) is not None]
    artefact = wheels[-max(fitting)[1]] if fitting else _to_build(name, package, base=base)
    if artefact is None:
        raise KitaruDeployError(
            f"{name} {package.get('version', '')} has no wheel for CPython {python} on this platform, and no source",
            hint="choose another release of it, or another `python` in kitaru.toml",
        )
    return Picked(name, package.get("version"), artefact)


def _rank(wheel: Published, ranks: Mapping[str, int]) -> tuple[int, tuple[int, str] | tuple[()]] | None:
    """Greater is better: the tag, then the build number; None if it does not fit."""
    try:
        _, _, build, tags = parse_wheel_filename(wheel.filename)
    except (InvalidWheelFilename, InvalidVersion):
        return None
    fitting = [ranks[str(tag)] for tag in tags if str(tag) in ranks]
    # Of wheels that fit equally well the higher build number is meant, PEP 427.
    return (-min(fitting), build) if fitting else None


def _to_build(name: str, package: Mapping[str, Any], *, base: Path) -> Published | Folder | Archive | Remote | None:
    if "directory" in package:
        entry = package["directory"]
        return Folder((base / entry["path"] / entry.get("subdirectory", "")).resolve())
    if "vcs" in package:
        vcs = package["vcs"]
        where = f"&subdirectory={vcs['subdirectory']}" if "subdirectory" in vcs else ""
        place = vcs.get("url") or (base / vcs["path"]).resolve().as_uri()
        # Not `name @ URL`: releases of pip take a `git+file:` URL there for a path.
        return Remote(f"{vcs['type']}+{place}@{vcs['commit-id']}#egg={name}{where}")
    entry = package.get("archive") or package.get("sdist")
    if entry is None:
        return None
    published = _published(entry, base)
    if published.filename.endswith(".whl"):
        return published
    if published.path is not None and "subdirectory" not in entry:
        return Archive(published.path, published.hashes)
    where = f"#subdirectory={entry['subdirectory']}" if "subdirectory" in entry else ""
    place = published.path.as_uri() if published.path is not None else published.url
    local = Archive(published.path, published.hashes) if published.path is not None else None
    return Remote(f"{name} @ {place}{where}{hash_option(published.hashes, what=published.filename)}", local)


def hash_option(hashes: Mapping[str, str], *, what: str) -> str:
    """What a line of a requirements file says of a file's hash, for pip; empty where none is known.

    Raises:
        KitaruDeployError: none of the hashes is one that pip checks.
    """
    if not hashes:
        return ""
    kind = next((kind for kind in CHECKED_BY_PIP if kind in hashes), None)
    if kind is None:
        raise KitaruDeployError(
            f"of {what} the lock tells {', '.join(sorted(hashes))} alone, which proves too little",
            hint=f"lock it with one of {', '.join(CHECKED_BY_PIP)}",
        )
    return f" --hash={kind}:{hashes[kind]}"


def _published(entry: Mapping[str, Any], base: Path) -> Published:
    url = entry.get("url")
    path = (base / entry["path"]).resolve() if "path" in entry else None
    if url is not None and urlsplit(url).scheme == "file":
        url, path = None, Path(unquote(urlsplit(url).path))
    if path is not None and url is not None and not path.exists():
        path = None
    if path is None and url is None:
        raise KeyError("url or path")
    hashes = {kind.lower(): digits.lower() for kind, digits in entry.get("hashes", {}).items()}
    return Published(_filename(entry.get("name"), url=url, path=path), hashes, None if path else url, path)


def _filename(told: str | None, *, url: str | None, path: Path | None) -> str:
    """The name that a file was published under: a lock of uv's has a normalised one beside the address."""
    place = path.as_posix() if path is not None else urlsplit(str(url)).path
    last = unquote(place.rsplit("/", 1)[-1])
    return last if told is None or _is_wheel_name(last) else told


def _is_wheel_name(filename: str) -> bool:
    try:
        parse_wheel_filename(filename)
    except (InvalidWheelFilename, InvalidVersion):
        return False
    return True
