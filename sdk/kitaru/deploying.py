"""Story 1: a flow, its code and every wheel that it needs become the flow's next version."""

from __future__ import annotations

import hashlib
import io
import os
import platform
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kitaru.changes import changes
from kitaru.flow_options import FlowOptions as CallOptions
from kitaru.missing_files import check_collected, hint_for_module
from kitaru.targets import Target, find_target, parse_source
from kitaru_registry.api.request import Actor, Registry
from kitaru_registry.api.version_requests import PrepareDeploy, RegisterVersion
from kitaru_registry.canonical import hex_of, sha256_of
from kitaru_registry.errors import KitaruBackendError, KitaruDeployError, KitaruNotFoundError
from kitaru_registry.home import Home
from kitaru_registry.models import Deployed, FlowOptions, GitFacts, SnapshotFacts, VersionDetail
from kitaru_registry.names import check_name
from kitaru_registry.records.answers import Registered
from kitaru_registry.snapshots.artifact import Packed, code_tar, fetch_code, fetch_lock, pack, unpack_code
from kitaru_registry.snapshots.files import Collection, collect
from kitaru_registry.snapshots.git import origin_of, read_git
from kitaru_registry.snapshots.lock import resolve
from kitaru_registry.snapshots.packages import Lock
from kitaru_registry.snapshots.sources import project_folder
from kitaru_registry.snapshots.wheels import Wheel, fetch_wheels, kitaru_wheel
from kitaru_registry.stores.layout import OciLayout, ref_name
from kitaru_runner.host.environment import Interpreter, ensure_environment, find_interpreter
from kitaru_runner.host.import_check import FlowDescription, describe


@dataclass(frozen=True)
class Order:
    """What is to be deployed, and how."""

    target: Target
    home: Home
    project: str
    tag: str | None
    upgrade: bool
    adopt: bool
    allow: Sequence[str]
    actor: str
    options: CallOptions | None
    progress: Callable[[str], None]


@dataclass(frozen=True)
class Snapshot:
    packed: Packed
    collection: Collection
    warnings: tuple[str, ...]


def deploy(
    target: str | None,
    *,
    home: Home,
    cwd: Path,
    registry: Registry,
    project: str | None = None,
    tag: str | None = None,
    upgrade: bool = False,
    adopt: bool = False,
    allow: Sequence[str] = (),
    actor: str,
    options: CallOptions | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Deployed:
    """The version that the target's code and dependencies are now: a new one, or the one with these same bytes.

    Args:
        target: `path.py:flow` seen from `cwd`, the name of a flow of kitaru.toml, or None for its only one.
        registry: the home's.
        project: instead of kitaru.toml's.
        tag: move it to the version too; without it no tag moves, but `default` to v1.
        upgrade: resolve the dependencies afresh.
        adopt: take over a flow name that another origin holds.
        allow: what to let pass of that which `collect` refuses.
        options: of the flow, instead of those that `@flow` says.

    Raises:
        KitaruError: of many kinds; no version was registered then, and no tag moved.
    """
    found = find_target(target, cwd=cwd)
    parse_source(found.path, found.file)
    name = check_name("project", project or found.project.project)
    order = Order(found, home, name, tag, upgrade, adopt, allow, actor, options, progress)
    return carry_out(order, registry)


def carry_out(order: Order, registry: Registry) -> Deployed:
    project, root = order.project, order.target.project.root
    me = Actor(order.actor)
    before = registry.ask(PrepareDeploy(project=project, flow=order.target.name, tag=order.tag), by=me)
    git = read_git(root)
    facts = git.facts if git else None
    config = order.target.config
    collection = collect(
        root,
        include=config.include,
        exclude=config.exclude,
        allow=order.allow,
        git=git,
        project=project_below(root, order.target),
    )
    # Refused here by name if git ignores it, before anything is resolved.
    check_collected(order.target, collection, has_git=git is not None)
    store = OciLayout(order.home.layout)
    snapshot = build(order, collection, store, previous=lock_of(before, store))
    packed = snapshot.packed
    new = RegisterVersion(
        project=project,
        flow=packed.config.flow,
        origin=origin_of(root, git),
        digest=packed.digest,
        config=packed.config,
        git=facts,
        tag=order.tag,
        adopt=order.adopt,
    )
    registered = registry.ask(new, by=me)
    name_in_layout(store, registered, packed)
    return deployed(registered, snapshot, facts, changed=changed_since(before, snapshot, registered, store))


def project_below(root: Path, target: Target) -> str:
    """Where the project that the flow is part of begins, relative to the root; empty where that is the root."""
    requirements = target.config.requirements
    folder = project_folder(root.resolve(), entry=root.resolve() / target.file, requirements=requirements)
    below = folder.relative_to(root.resolve()) if folder.is_relative_to(root.resolve()) else Path()
    return below.as_posix() if below.parts else ""


def build(order: Order, collection: Collection, store: OciLayout, *, previous: bytes | None) -> Snapshot:
    """The snapshot in the store, its code imported in the environment that it will run in."""
    home, target = order.home, order.target
    interpreter = find_interpreter(target.config.python or this_minor())
    runtime = kitaru_wheel()
    lock = resolve(
        target.project.root,
        entry=Path(target.file),
        requirements=target.config.requirements,
        python=interpreter.version,
        kitaru_wheel=runtime,
        previous=previous,
        upgrade=order.upgrade,
        cache=home.cache,
        tools=home.tools,
        interpreter=interpreter.path,
        allow=order.allow,
        progress=order.progress,
    )
    new = [wheel.digest for wheel in lock.wheels if not store.exists(wheel.digest)]
    fetch_wheels(lock, store, python=interpreter.minor, tools=home.tools, cache=home.cache, progress=order.progress)
    described = import_code(order, collection, lock, store, interpreter)
    packed = pack(
        store,
        facts=facts_of(order, described, interpreter, runtime),
        collection=collection,
        lock=lock.text,
        wheels=lock.digests,
        new_wheels=new,
    )
    return Snapshot(packed, collection, lock.warnings)


def import_code(
    order: Order, collection: Collection, lock: Lock, store: OciLayout, interpreter: Interpreter
) -> FlowDescription:
    """What the packed code says of its flow, imported where and as it will run."""
    environment = ensure_environment(
        order.home,
        lock=lock.text,
        wheels=lock.digests,
        store=store,
        interpreter=interpreter,
        progress=order.progress,
    )
    tar = code_tar(collection)
    code = order.home.code / hex_of(sha256_of(tar))
    unpack_code(tar, code)
    target = order.target
    order.progress(f"importing {target.file}")
    # A flow's own too: what it sees when it runs it sees when it is imported.
    names = (*target.project.deploy.env, *target.config.env)
    seen = {name: os.environ[name] for name in names if name in os.environ}
    try:
        described = describe(environment.python, code, target.entrypoint, env=seen)
    except KitaruDeployError as error:
        if error.module is not None:
            has_git = read_git(target.project.root) is not None
            error.hint = hint_for_module(error.module, target, collection, has_git=has_git) or error.hint
        raise
    if target.declared is not None and described.flow != target.declared:
        raise KitaruDeployError(
            f"{target.project.file} calls it {target.declared}, and {target.file} calls it {described.flow}",
            hint=f"give both one name: [flows.{described.flow}]",
        )
    return described


def facts_of(order: Order, described: FlowDescription, interpreter: Interpreter, runtime: Wheel) -> SnapshotFacts:
    options = order.options or described
    return SnapshotFacts(
        flow=check_name("flow", described.flow),
        entrypoint=order.target.entrypoint,
        options=FlowOptions(
            retries=options.retries,
            cache=options.cache,
            finish_timeout=options.finish_timeout,
            env=tuple(sorted(set(order.target.config.env))),
            pickle="forbid" if order.target.project.values.pickle == "forbid" else None,
            divergence="strict" if order.target.project.journal.divergence == "strict" else None,
        ),
        input_schema=described.input_schema,
        output_schema=described.output_schema,
        python=interpreter.minor,
        platform=interpreter.platform,
        protocol=described.protocol,
        codec=described.codec,
        kitaru=runtime.filename.split("-")[1],
    )


def lock_of(before: VersionDetail | None, store: OciLayout) -> bytes | None:
    """The lock whose pins stay. They are a preference, so a store that lost it stops no deploy."""
    try:
        return fetch_lock(store, before.config) if before else None
    except (KitaruNotFoundError, KitaruBackendError):
        return None


def name_in_layout(store: OciLayout, registered: Registered, packed: Packed) -> None:
    """`skopeo inspect oci:LAYOUT:NAME` finds the version. If a crash came before this, the next deploy does it."""
    version = registered.version
    name = ref_name(project=version.project, flow=version.flow, version=version.version)
    if store.names().get(name) != packed.manifest:
        store.name(name, packed.manifest)


def changed_since(
    before: VersionDetail | None, snapshot: Snapshot, registered: Registered, store: OciLayout
) -> tuple[str, ...]:
    if before is None or before.flow != registered.version.flow or not registered.created:
        return ()
    config = snapshot.packed.config
    old: dict[str, str] = {}
    new: dict[str, str] = {}
    if before.config.code != config.code:
        try:
            old = contents(fetch_code(store, before.config))
        except (KitaruNotFoundError, KitaruBackendError):
            return (f"{before.name} cannot be compared: its code is missing or damaged",)
        new = {file.path: f"{file.executable} {file.sha256}" for file in snapshot.collection.files}
    return changes(before.config, config, files_before=old, files_after=new)


def contents(tar: bytes) -> dict[str, str]:
    """Path to mode and sha256 of each file in a code tar."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as entries:
        for entry in entries:
            file = entries.extractfile(entry)
            if file is not None:
                found[entry.name] = f"{bool(entry.mode & 0o100)} {hashlib.sha256(file.read()).hexdigest()}"
    return found


def deployed(registered: Registered, snapshot: Snapshot, git: GitFacts | None, *, changed: tuple[str, ...]) -> Deployed:
    version = registered.version
    return Deployed(
        project=version.project,
        flow=version.flow,
        version=version.version,
        digest=version.digest,
        created=registered.created,
        tags=version.tags,
        git=git,
        blobs=snapshot.packed.counts,
        changed=changed,
        warnings=snapshot.warnings,
    )


def this_minor() -> str:
    return ".".join(platform.python_version_tuple()[:2])
