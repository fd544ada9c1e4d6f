"""One resolution by uv, and the builds that it needs: what `lock.resolve` does when nothing is kept."""

from __future__ import annotations

import json
import re
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kitaru_registry.canonical import sha256_of
from kitaru_registry.errors import KitaruDeployError
from kitaru_registry.models import Digest
from kitaru_registry.snapshots.building import Builder, fingerprint
from kitaru_registry.snapshots.local_files import checked_digest
from kitaru_registry.snapshots.packages import LocalInput, LockedWheel, state_of_file
from kitaru_registry.snapshots.pip_tool import fetch_by_hash
from kitaru_registry.snapshots.selection import (
    Archive,
    Folder,
    Picked,
    Published,
    Remote,
    check_python,
    hash_option,
    later_format,
    normal_name,
    select,
    wheel_version,
)
from kitaru_registry.snapshots.sources import Source, builds_anyhow, parse_toml, script_block
from kitaru_registry.snapshots.uv_tool import UvError, run_uv, tool_environment, without_credentials

PINNED_HASHES = re.compile(r"--hash[= ]sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Answer:
    wheels: tuple[LockedWheel, ...]
    inputs: tuple[LocalInput, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Resolver:
    root: Path
    source: Source
    python: str
    interpreter: Path | None
    kitaru: LockedWheel
    upgrade: bool
    cache: Path
    tools: Path
    allow: Collection[str]
    progress: Callable[[str], None]

    @property
    def minor(self) -> str:
        return ".".join(self.python.split(".")[:2])

    @property
    def project(self) -> Path:
        """The folder of the project whose code the snapshot holds; uv's settings start there."""
        return self.source.project or self.root

    def resolve(self, *, previous: bytes | None) -> Answer:
        check_python(self.source.requires_python, self.python, label=self.source.label)
        self.progress("resolving dependencies")
        self.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.cache, prefix="resolve-") as work:
            folder = Path(work)
            picked, warnings = (
                self._from_ready_lock(folder, previous) if self.source.ready else (self._loose(folder, previous), [])
            )
        self._check_pinned_hashes(picked)
        # The root project is no wheel: its code is the snapshot's code blob.
        others = [p for p in picked if p.name != "kitaru" and not self._is_root(p)]
        wheels = [self._wheel(package) for package in others]
        inputs = [local for p in picked if not self._is_root(p) for local in self._inputs(p)]
        if self.source.computed:
            inputs.append(LocalInput(self.project, fingerprint(self.project, allow=self.allow)))
        ordered = tuple(sorted([*wheels, self.kitaru], key=lambda wheel: wheel.name))
        return Answer(ordered, tuple(inputs), tuple(warnings))

    def _inputs(self, package: Picked) -> Iterator[LocalInput]:
        """What of this machine the package was made from."""
        artefact = _on_this_machine(package.artefact)
        if isinstance(artefact, Folder | Archive):
            yield LocalInput(artefact.path, fingerprint(artefact.path, allow=self.allow))
        elif isinstance(artefact, Published) and artefact.path is not None and package.name != "kitaru":
            yield LocalInput(artefact.path, state_of_file(artefact.path))

    def _loose(self, work: Path, previous: bytes | None) -> list[Picked]:
        """Requirements without a lock of the project's own: resolved together with Kitaru's."""
        cwd, sources = self.project, [] if self.source.path is None else [self.source.path]
        if self.source.kind == "script":
            cwd, sources = work, [self._script_project(work)]
        return self._compile(sources, work=work, cwd=cwd, previous=previous)

    def _from_ready_lock(self, work: Path, previous: bytes | None) -> tuple[list[Picked], list[str]]:
        """The project's own lock to the letter, and what Kitaru needs beside it."""
        text, base = self._ready_text(work)
        pylock = parse_toml(self.source.label, text)
        locked = select(
            pylock, base=base, python=self.python, label=self.source.label, from_source=builds_anyhow(self.source)
        )
        own = [package for package in locked if package.name != "kitaru"]
        pins = work / "pins.txt"
        pins.write_text("".join(f"{p.name}=={p.version}\n" for p in own if p.version is not None))
        needed = self._compile([], work=work, cwd=self.project, previous=previous, constraints=pins)
        names = {package.name for package in own}
        return [*own, *(package for package in needed if package.name not in names)], self._warnings(locked, pylock)

    def _ready_text(self, work: Path) -> tuple[str, Path]:
        source = self.source.path
        assert source is not None
        if self.source.kind == "pylock":
            return source.read_text(), source.parent
        out = work / "pylock.exported.toml"
        what = (
            ["--script", source] if self.source.kind == "script-lock" else ["--no-default-groups", "--no-emit-project"]
        )
        cwd = source.parent
        options = ["--locked", "--no-header", "--format", "pylock.toml"]
        if self.project != cwd:
            options += ["--package", self.source.name]
        if not self._is_kitaru_itself():
            options += ["--prune", "kitaru"]
        self._uv(["export", "-q", *options, *what, "-o", out], work=work, cwd=cwd)
        # Paths of local packages are relative to the file that uv wrote.
        return out.read_text(), out.parent

    def _is_kitaru_itself(self) -> bool:
        """Whether the project is Kitaru's own repository, whose `kitaru` is no package of an index."""
        return normal_name(self.source.name) == "kitaru"

    def _warnings(self, locked: Sequence[Picked], pylock: Mapping[str, Any]) -> list[str]:
        later = later_format(pylock)
        return [
            *([f"{self.source.label} has lock-version {later}; what is new in it was not read"] if later else []),
            *([] if self._is_kitaru_itself() else self._of_kitaru(locked)),
        ]

    def _of_kitaru(self, locked: Sequence[Picked]) -> list[str]:
        text = "\n".join(content.decode(errors="replace") for name, content in self.source.files if "lock" in name)
        if any(p.name == "kitaru" for p in locked) or re.search(r'(?m)^name = "kitaru"$', text):
            return [f"{self.source.label} holds a distribution named kitaru; this Kitaru's runtime takes its place"]
        return []

    def _compile(
        self,
        sources: Sequence[Path],
        *,
        work: Path,
        cwd: Path,
        previous: bytes | None,
        constraints: Path | None = None,
    ) -> list[Picked]:
        assert self.kitaru.path is not None
        ours = work / "kitaru.txt"
        ours.write_text(f"kitaru @ {self.kitaru.path.as_uri()}\n")
        out = work / "pylock.resolved.toml"
        arguments: list[str | Path] = ["pip", "compile", "-q", *sources, ours, "--overrides", ours, "--no-header"]
        arguments += ["--format", "pylock.toml", "-o", out, "--python", self.interpreter or self.minor]
        if constraints is not None:
            arguments += ["--constraints", constraints]
        if self.upgrade:
            arguments.append("--upgrade")
        if self.source.computed:
            # uv would take what an earlier build said, as long as pyproject.toml is the same.
            arguments += ["--refresh-package", self.source.name] if self.source.name else ["--refresh"]
        try:
            self._compile_for(self.minor, arguments, out=out, cwd=cwd, previous=previous)
            return select(tomllib.loads(out.read_text()), base=work, python=self.minor)
        except KitaruDeployError:
            # A bare minor stands for its first release; a package may need a later one, which this machine has.
            if self.python == self.minor:
                raise
            self._compile_for(self.python, arguments, out=out, cwd=cwd, previous=previous)
            return select(tomllib.loads(out.read_text()), base=work, python=self.python)

    def _compile_for(
        self, python: str, arguments: Sequence[str | Path], *, out: Path, cwd: Path, previous: bytes | None
    ) -> None:
        # uv keeps the pins of an output file that is there.
        out.unlink(missing_ok=True)
        if previous is not None:
            out.write_bytes(previous)
        self._uv([*arguments, "--python-version", python], work=out.parent, cwd=cwd)

    def _uv(self, arguments: Sequence[str | Path], *, work: Path, cwd: Path) -> None:
        # To learn what a project needs, uv may run its build; setuptools would leave an egg-info beside the sources.
        settings = work / "distutils.cfg"
        settings.write_text(f"[egg_info]\negg_base = {work}\n")
        try:
            run_uv(arguments, cwd=cwd, environment=tool_environment() | {"DIST_EXTRA_CONFIG": str(settings)})
        except UvError as error:
            named = "Kitaru's own dependencies" if self.source.kind == "none" else f"those of {self.source.label}"
            raise KitaruDeployError(
                f"the dependencies cannot be resolved: {named}, with Python {self.minor}",
                hint=f"correct {self.source.label}, then deploy again" if self.source.kind != "uv.lock" else "uv lock",
                detail=error.explanation,
            ) from error

    def _script_project(self, work: Path) -> Path:
        """The PEP 723 block as a pyproject.toml: `uv pip compile flow.py` overlooks the block's `tool.uv.sources`."""
        entry = self.source.path
        assert entry is not None
        block = parse_toml(self.source.label, script_block(entry) or "")
        project = {"name": "kitaru-script", "version": "0", "dependencies": block.get("dependencies", [])}
        tool = {"uv": _absolute(block.get("tool", {}).get("uv", {}), entry.parent)}
        path = work / "pyproject.toml"
        path.write_text(f"project = {_inline(project)}\ntool = {_inline(tool)}\n")
        return path

    def _wheel(self, package: Picked) -> LockedWheel:
        artefact = package.artefact
        if isinstance(artefact, Published):
            return self._published(package.name, artefact)
        local = _on_this_machine(artefact)
        if isinstance(local, Archive):
            checked_digest(local.path, local.hashes, name=package.name, source=self.source)
        builder = Builder(
            interpreter=self.interpreter or Path(sys.executable),
            target=f"{self.minor} {sysconfig.get_platform()}",
            cache=self.cache,
            tools=self.tools,
            allow=self.allow,
            progress=self.progress,
        )
        path = builder.build(package.name, artefact)
        version = wheel_version(path.name)
        return LockedWheel(package.name, version, path.name, sha256_of(path.read_bytes()), url=None, path=path)

    def _published(self, name: str, wheel: Published) -> LockedWheel:
        version = wheel_version(wheel.filename)
        if wheel.path is not None:
            digest = checked_digest(wheel.path, wheel.hashes, name=name, source=self.source)
            return LockedWheel(name, version, wheel.filename, digest, url=None, path=wheel.path)
        url = without_userinfo(str(wheel.url))
        if not urlsplit(url).path.endswith(".whl"):
            raise KitaruDeployError(
                f"{self.source.label} has {wheel.filename} at an address that does not end in a wheel's name, and pip "
                "fetches no wheel from such a one",
                hint=f"download it, and let {self.source.label} name it by `path`",
            )
        if wheel.digest is not None:
            return LockedWheel(name, version, wheel.filename, wheel.digest, url, path=None)
        if not wheel.hashes:
            raise KitaruDeployError(
                f"the index tells no hash for {wheel.filename}",
                hint="use an index that publishes hashes, or a local folder with --find-links",
            )
        path = fetch_by_hash(
            f"{name} @ {url}{hash_option(wheel.hashes, what=wheel.filename)}",
            python=self.minor,
            tools=self.tools,
            cache=self.cache,
        )
        return LockedWheel(name, version, wheel.filename, sha256_of(path.read_bytes()), url=None, path=path)

    def _is_root(self, package: Picked) -> bool:
        return isinstance(package.artefact, Folder) and package.artefact.path == self.project

    def _check_pinned_hashes(self, picked: Sequence[Picked]) -> None:
        """Raise if the requirements pin hashes and a chosen wheel has another: uv compares them at an install only."""
        if self.source.kind != "requirements":
            return
        for package in picked:
            allowed = self._pinned_hashes().get(package.name)
            artefact = package.artefact
            if allowed and isinstance(artefact, Published) and artefact.digest not in allowed:
                raise KitaruDeployError(
                    f"{artefact.filename} has none of the hashes that {self.source.label} pins for {package.name}",
                    hint=f"compile {self.source.label} again",
                )

    def _pinned_hashes(self) -> dict[str, set[Digest]]:
        pinned: dict[str, set[Digest]] = {}
        for name, content in self.source.files:
            if name in {"pyproject.toml", "uv.toml"}:
                continue
            for line in content.decode(errors="replace").replace("\\\n", " ").splitlines():
                hashes = {Digest(f"sha256:{found}") for found in PINNED_HASHES.findall(line)}
                if hashes:
                    requirement = re.split(r"[\s=<>!~;\[@]", line.strip(), maxsplit=1)[0]
                    pinned.setdefault(normal_name(requirement), set()).update(hashes)
        return pinned


def _on_this_machine(
    artefact: Published | Folder | Archive | Remote,
) -> Published | Folder | Archive | Remote:
    """Of a part of a local archive, the archive."""
    return artefact.archive or artefact if isinstance(artefact, Remote) else artefact


def without_userinfo(url: str) -> str:
    return without_credentials(url).replace("***@", "", 1)


def _absolute(settings: dict[str, Any], base: Path) -> dict[str, Any]:
    """uv's settings with paths that were relative to the script made absolute."""
    sources = {
        name: [{**s, "path": str(base / s["path"])} if "path" in s else s for s in (v if isinstance(v, list) else [v])]
        for name, v in settings.get("sources", {}).items()
    }
    indexes = [
        {**index, "url": index["url"] if "://" in index["url"] else str(base / index["url"])}
        for index in settings.get("index", [])
    ]
    links = [link if "://" in link else str(base / link) for link in settings.get("find-links", [])]
    changed = {"sources": sources, "index": indexes, "find-links": links}
    return {**settings, **{name: value for name, value in changed.items() if name in settings}}


def _inline(value: object) -> str:
    """A TOML value on one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(str(k))} = {_inline(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_inline(item) for item in value) + "]"
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return json.dumps(value)
