"""`kitaru flows` and `kitaru versions`: what is deployed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from kitaru_cli.commands import LOOK, Output, command, group, open_client
from kitaru_cli.output import Answer, Format, item, items
from kitaru_cli.tables import Facts, Part, Table, bold, dim
from kitaru_cli.words import ago, moment, now, route, short_digest

if TYPE_CHECKING:
    from kitaru_registry.models import DeployEvent, FlowSummary, GitFacts, JsonSchema, VersionDetail

NOTHING_DEPLOYED = "Nothing is deployed yet: kitaru deploy path.py:flow"

VersionRef = Annotated[
    str, typer.Argument(metavar="REF", help="FLOW@v3, FLOW@TAG, FLOW@sha256:..., or FLOW for its default.")
]


def add_to(app: typer.Typer) -> None:
    command(app, "flows", examples=["kitaru flows", "kitaru flows -o json"], section=LOOK)(flows)
    versions = group(app, "versions", "List, show and delete versions of flows.", section=LOOK)
    command(versions, "versions.list", examples=["kitaru versions list", "kitaru versions list review_flow"])(
        list_versions
    )
    command(versions, "versions.show", examples=["kitaru versions show review_flow@stable"])(show)
    command(versions, "versions.delete", examples=["kitaru versions delete review_flow@v2"])(delete)


def flows(output: Output = Format.text) -> Answer:
    """List the deployed flows of this project, with their tags."""
    found = open_client().deployments.flows()
    return items(found, lambda: flows_text(found))


def list_versions(
    flow: Annotated[str | None, typer.Argument(metavar="FLOW", help="By default every flow.")] = None,
    output: Output = Format.text,
) -> Answer:
    """List versions, the newest first."""
    found = open_client().deployments.list(flow=flow)
    return items(found, lambda: versions_text(found))


def show(ref: VersionRef, output: Output = Format.text) -> Answer:
    """Show one version: what it runs, what it takes, and each deploy of it."""
    found = open_client().deployments.get(flow=ref)
    return item(found, lambda: version_text(found))


def delete(
    ref: Annotated[str, typer.Argument(metavar="FLOW@vN", help="The version.")], output: Output = Format.text
) -> Answer:
    """Delete a version that no tag points at and no open execution uses. Its number is never given again."""
    found = open_client().deployments.delete(flow=ref)
    return item(found, lambda: [f"Deleted {found.flow} {found.name} ({short_digest(found.digest)})"])


def flows_text(flows: Sequence[FlowSummary]) -> Sequence[Part]:
    if not flows:
        return [dim(NOTHING_DEPLOYED)]
    rows = [
        (
            bold(flow.flow),
            f"v{flow.latest}" if flow.latest else "-",
            str(flow.versions),
            ", ".join(f"{tag} {route(routes)}" for tag, routes in flow.tags.items()) or "-",
        )
        for flow in flows
    ]
    return [Table(("flow", "latest", "versions", "tags"), rows, frozenset({"tags"}), frozenset({"versions"}))]


def versions_text(versions: Sequence[VersionDetail]) -> Sequence[Part]:
    if not versions:
        return [dim(NOTHING_DEPLOYED)]
    seen_from = now()
    rows = [
        (
            found.flow,
            bold(found.name),
            ", ".join(found.tags) or "-",
            ago(found.created_at, seen_from),
            commit_text(found.deploys[0].git) if found.deploys else "-",
            dim(short_digest(found.digest)),
        )
        for found in versions
    ]
    return [Table(("flow", "version", "tags", "created", "commit", "digest"), rows, frozenset({"tags", "commit"}))]


def version_text(found: VersionDetail) -> Sequence[Part]:
    seen_from = now()
    config = found.config
    facts = Facts(
        (
            ("version", bold(f"{found.flow} {found.name}")),
            ("digest", found.digest),
            ("tags", ", ".join(found.tags) or "none"),
            ("created", moment(found.created_at, seen_from)),
            ("entry", config.entrypoint),
            ("inputs", parameters_text(config.input_schema)),
            ("runs on", f"Python {config.python}, {config.platform}, kitaru {config.kitaru}"),
            ("retries", str(config.options.retries)),
            ("wheels", str(len(config.wheels))),
            *([("env", ", ".join(config.options.env))] if config.options.env else []),
        )
    )
    rows = [(ago(event.at, seen_from), event.actor, git_text(event.git), outcome(event)) for event in found.deploys]
    return [facts, "", Table(("deployed", "by", "commit", ""), rows, wraps=frozenset({"by", "commit"}))]


def outcome(event: DeployEvent) -> str:
    return "new version" if event.created else "same bytes again"


def git_text(git: GitFacts | None) -> str:
    """`main 3f2a1b0 dirty`; `no git` where there was none."""
    return f"{git.branch} {commit_text(git)}" if git and git.branch else commit_text(git)


def commit_text(git: GitFacts | None) -> str:
    if git is None:
        return "no git"
    return (git.commit[:7] if git.commit else "no commit") + (" dirty" if git.dirty else "")


def parameters_text(schema: JsonSchema) -> str:
    """`topic: string, limit: integer = 3`; a trailing star would be a parameter's default that is no JSON."""
    required = set(schema.get("required", ()))
    named = [
        f"{name}: {type_name(field)}" + ("" if name in required else f" = {field.get('default', '...')!r}")
        for name, field in schema.get("properties", {}).items()
    ]
    return ", ".join(named) or "none"


def type_name(schema: JsonSchema) -> str:
    """A JSON schema in a word or two."""
    if "enum" in schema:
        return " | ".join(str(choice) for choice in schema["enum"])
    for together in ("anyOf", "oneOf"):
        if together in schema:
            return " | ".join(type_name(choice) for choice in schema[together])
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    named = schema.get("type", "any")
    return " | ".join(named) if isinstance(named, list) else str(named)
