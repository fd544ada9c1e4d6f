"""`kitaru artifacts`: list, show, download what executions produced, and trace what was made from what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kitaru_cli.commands import LOOK, Output, command, group, open_client
from kitaru_cli.output import Answer, Format, as_json, at_most, item, items
from kitaru_cli.tables import Facts, Part, Styled, Table, bold, dim
from kitaru_cli.words import ago, counted, moment, now, short_id, size, value_text, version_of

if TYPE_CHECKING:
    from kitaru.artifact_client import ArtifactRef
    from kitaru_registry.models import Artifact, Lineage, LineageLink

KINDS = ("step_output", "manual", "answer", "result")

ArtifactArgument = Annotated[
    str, typer.Argument(metavar="ARTIFACT", help="EXECUTION/KEY, EXECUTION/KEY:NAME of a save, EXECUTION: its result.")
]


def add_to(app: typer.Typer) -> None:
    artifacts = group(app, "artifacts", "List, show, download and trace what executions produced.", section=LOOK)
    command(
        artifacts,
        "artifacts.list",
        examples=[
            "kitaru artifacts list 3f2a91c4",
            "kitaru artifacts list --flow review_flow --tag approved --since 7d",
        ],
    )(list_artifacts)
    command(artifacts, "artifacts.show", examples=["kitaru artifacts show 3f2a91c4/research:notes"])(show)
    command(artifacts, "artifacts.download", examples=["kitaru artifacts download 3f2a91c4/draft --to draft.txt"])(
        download
    )
    command(
        artifacts,
        "artifacts.lineage",
        examples=["kitaru artifacts lineage 3f2a91c4/draft", "kitaru artifacts lineage 3f2a91c4/research --down"],
    )(lineage)


def list_artifacts(
    execution: Annotated[
        str | None, typer.Argument(metavar="[EXECUTION]", help="Of this one, in recorded order; else of all.")
    ] = None,
    flow: Annotated[str | None, typer.Option("--flow", metavar="FLOW", help="Of this flow only.")] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Of this name, or checkpoint.")] = None,
    type_: Annotated[
        str | None, typer.Option("--type", metavar="TYPE", help="output, input, prompt, response, context, blob.")
    ] = None,
    tag: Annotated[str | None, typer.Option("--tag", metavar="TAG", help="Saved with this tag.")] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="KIND", help=f"One of {', '.join(KINDS)}.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Made since: 30m, 2h, 7d, 2026-01-31.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="At most so many.")] = 50,
    output: Output = Format.text,
) -> Answer:  # fmt: skip
    """List artifacts: of one execution, or of all, the newest first."""
    from kitaru_cli.parsing import one_of, since_moment
    from kitaru_registry.errors import KitaruUsageError

    client = open_client()
    one_of(kind, KINDS, option="--kind")
    if execution is None:
        moment_ = since_moment(since, now())
        found = client.artifacts.search(
            flow=flow, name=name, type=type_, tag=tag, kind=kind, since=moment_, limit=limit
        )  # fmt: skip
    elif flow is not None or since is not None:
        raise KitaruUsageError(
            "--flow and --since choose among executions, and one is named", hint="leave the execution out, or these"
        )
    else:
        found = client.artifacts.list(execution, name=name, type=type_, tag=tag, kind=kind, limit=limit)
    return items(found, lambda: artifacts_text(found), notes=lambda: at_most(len(found), limit, "--limit N"))


def show(artifact: ArtifactArgument, output: Output = Format.text) -> Answer:
    """Show one artifact and its value, without running any code."""
    found = open_client().artifacts.get(artifact)
    value = found.shown()
    record = as_json(found)
    assert isinstance(record, dict)
    return item({**record, "value": value}, lambda: [*facts(found), "", *value_parts(found, value)])


def download(
    artifact: ArtifactArgument,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="PATH", help="A file, or a folder; by default named as the artifact.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    output: Output = Format.text,
) -> Answer:
    """Write an artifact's value to a file: text as text, arrays as .npy, tables as .csv, other data as JSON.

    A pickle, and what has a codec of your own, is written as it is stored.
    """
    from kitaru.downloading import download as write

    written = write(open_client().artifacts.get(artifact), to or Path(), force=force)
    return item(
        {"path": str(written.path), "size": written.size, "note": written.note},
        lambda: [f"{written.path}  {size(written.size)}"],
        notes=lambda: [dim(written.note)] if written.note else [],
    )


def lineage(
    artifact: ArtifactArgument,
    down: Annotated[bool, typer.Option("--down", help="What was made from it, instead.")] = False,
    depth: Annotated[int | None, typer.Option("--depth", metavar="N", min=1, help="So many links at most.")] = None,
    output: Output = Format.text,
) -> Answer:  # fmt: skip
    """Show what an artifact was made from, across executions."""
    found = open_client().artifacts.lineage(artifact, direction="down" if down else "up", depth=depth)
    return item(found, lambda: lineage_text(found))


# Texts


def artifacts_text(found: Sequence[Artifact]) -> Sequence[Part]:
    if not found:
        return [dim("No artifacts.")]
    seen_from = now()
    rows = [
        (
            bold(short_ref(a)), a.name, a.kind, a.type, ", ".join(a.tags), a.codec, shown_size(a),
            ago(a.created_at, seen_from),
        )
        for a in found
    ]  # fmt: skip
    columns = ("artifact", "name", "kind", "type", "tags", "codec", "size", "made")
    return [Table(columns, rows, wraps=frozenset({"artifact", "tags"}), right=frozenset({"size"}))]


def short_ref(artifact: Artifact) -> str:
    """The id with the end of the execution's alone; every command takes it."""
    return short_id(artifact.exec_id) + artifact.artifact_id[len(artifact.exec_id) :]


def shown_size(artifact: Artifact) -> str:
    if not artifact.is_kept:
        return "not kept"
    return "gone" if artifact.size is None else size(artifact.size)


def facts(artifact: Artifact) -> Sequence[Part]:
    rows: list[tuple[str, str | Styled]] = [
        ("id", bold(artifact.artifact_id)),
        ("flow", f"{artifact.flow} {version_of(artifact.version, None)}"),
        ("kind", f"{artifact.kind}, {artifact.type}"),
        *([("tags", ", ".join(artifact.tags))] if artifact.tags else []),
        ("codec", f"{artifact.codec}, {shown_size(artifact)}"),
        ("digest", dim(artifact.digest)),
        ("made", moment(artifact.created_at, now())),
    ]
    return [Facts(rows)]


def value_parts(artifact: ArtifactRef, value: object) -> Sequence[Part]:
    if not artifact.is_kept:
        return [dim('the value was not kept: record="digest"')]
    return [value_text(value)]


def lineage_text(found: Lineage) -> Sequence[Part]:
    parts: list[Part] = [bold(line_of(found.artifact))]
    parts += tree(found.links, "")
    if not found.links:
        parts.append(
            dim("made from nothing recorded" if found.direction == "up" else "nothing recorded was made from it")
        )
    if found.same_bytes:
        parts += ["", dim(f"the same bytes: {counted(len(found.same_bytes), 'other artifact')}")]
        parts += [f"  {line_of(other)}" for other in found.same_bytes]
    return parts


def tree(links: Sequence[LineageLink], before: str) -> list[Part]:
    parts: list[Part] = []
    for number, link in enumerate(links, start=1):
        is_last = number == len(links)
        said = line_of(link.artifact) if link.artifact else f"{link.ref}  gone"
        notes = [*([link.relation] if link.relation != "passed" else []), *(["see above"] if link.is_repeated else [])]
        ending = f"  ({', '.join(notes)})" if notes else ""
        parts.append(f"{before}{'└─ ' if is_last else '├─ '}{said}{ending}")
        parts += tree(link.links, before + ("   " if is_last else "│  "))
    return parts


def line_of(artifact: Artifact) -> str:
    made_by = f"{artifact.flow} {version_of(artifact.version, None)}"
    return f"{short_ref(artifact)}  {made_by}  {artifact.codec} {shown_size(artifact)}"
