"""From uv's PEP 751 answer to one artefact per package for one Python minor on this platform."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.markers import Marker, default_environment
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags, platform_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from kitaru_registry.errors import KitaruDeployError
from kitaru_registry.models import Digest


@dataclass(frozen=True)
class Published:
    """A wheel that somebody published: used as it is."""

    filename: str
    digest: Digest | None
    """None where the index tells no hash."""
    url: str | None
    path: Path | None


@dataclass(frozen=True)
class Folder:
    """A local package: built from a clean copy."""

    path: Path


@dataclass(frozen=True)
class Archive:
    """A local source archive."""

    path: Path


@dataclass(frozen=True)
class Remote:
    """A source archive or a commit elsewhere, as a line of a requirements file."""

    requirement: str


@dataclass(frozen=True)
class Picked:
    name: str
    """Normalised."""
    version: str | None
    """None where only a build will tell."""
    artefact: Published | Folder | Archive | Remote


def select(pylock: dict[str, Any], *, base: Path, python: str) -> list[Picked]:
    """The packages of a PEP 751 lock that CPython `python` on this platform installs, by name.

    Args:
        base: the folder that relative paths start from.
        python: `3.11`, or `3.11.7` where markers must see the patch release.

    Raises:
        KitaruDeployError: a package has no artefact that fits.
    """
    environment = marker_environment(python)
    ranks = {tag: rank for rank, tag in enumerate(supported_tags(python))}
    picked: dict[str, Picked] = {}
    for package in pylock.get("packages", ()):
        if _applies(package, environment):
            choice = _pick(package, base=base, ranks=ranks, python=python)
            if choice.name in picked:
                raise KitaruDeployError(f"the lock has two {choice.name} for CPython {python} on this platform")
            picked[choice.name] = choice
    return [picked[name] for name in sorted(picked)]


def check_python(requires: str | None, python: str, *, label: str) -> None:
    """Raise unless `requires-python` admits some release of the minor."""
    if requires is None:
        return
    minor = ".".join(python.split(".")[:2])
    # 99: a project that needs 3.11.4 is one for 3.11, on a machine that has it.
    if not any(SpecifierSet(requires).contains(f"{minor}.{patch}") for patch in (0, 99)):
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


def supported_tags(python: str) -> Iterator[Tag]:
    """Wheel tags of CPython on this platform, the best first."""
    version = tuple(int(part) for part in python.split(".")[:2])
    interpreter = f"cp{version[0]}{version[1]}"
    platforms = list(platform_tags())
    yield from cpython_tags(version, [interpreter], platforms)
    yield from compatible_tags(version, interpreter, platforms)


def _applies(package: dict[str, Any], environment: dict[str, str]) -> bool:
    requires = package.get("requires-python")
    if requires is not None and not SpecifierSet(requires).contains(environment["python_full_version"]):
        return False
    marker = package.get("marker")
    lock_file: dict[str, Any] = {**environment, "extras": frozenset(), "dependency_groups": frozenset()}
    return marker is None or Marker(marker).evaluate(lock_file, context="lock_file")


def _pick(package: dict[str, Any], *, base: Path, ranks: dict[Tag, int], python: str) -> Picked:
    name = canonicalize_name(package["name"])
    wheels = [_published(wheel, base) for wheel in package.get("wheels", ())]
    best = min(((rank, n) for n, w in enumerate(wheels) if (rank := _rank(w, ranks)) is not None), default=None)
    artefact = wheels[best[1]] if best else _to_build(name, package, base=base)
    if artefact is None:
        raise KitaruDeployError(
            f"{name} {package.get('version', '')} has no wheel for CPython {python} on this platform, and no source",
            hint="choose another release of it, or another `python` in kitaru.toml",
        )
    return Picked(name, package.get("version"), artefact)


def _rank(wheel: Published, ranks: dict[Tag, int]) -> tuple[int, int, str] | None:
    try:
        _, _, build, tags = parse_wheel_filename(wheel.filename)
    except InvalidWheelFilename:
        return None
    fitting = [ranks[tag] for tag in tags if tag in ranks]
    # Of wheels that fit equally well the higher build number is meant, PEP 427.
    return (min(fitting), -(build[0] if build else -1), str(build)) if fitting else None


def _to_build(name: str, package: dict[str, Any], *, base: Path) -> Published | Folder | Archive | Remote | None:
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
    if published.path is not None:
        return Archive(published.path)
    where = f"#subdirectory={entry['subdirectory']}" if "subdirectory" in entry else ""
    hashed = f" --hash={published.digest}" if published.digest else ""
    return Remote(f"{name} @ {published.url}{where}{hashed}")


def _published(entry: dict[str, Any], base: Path) -> Published:
    url = entry.get("url")
    path = (base / entry["path"]).resolve() if "path" in entry else None
    if url is not None and urlsplit(url).scheme == "file":
        url, path = None, Path(unquote(urlsplit(url).path))
    place = path.as_posix() if path is not None else urlsplit(str(url)).path
    filename = entry.get("name") or unquote(place.rsplit("/", 1)[-1])
    sha256 = entry.get("hashes", {}).get("sha256")
    return Published(filename, Digest(f"sha256:{sha256}") if sha256 else None, url, path)
