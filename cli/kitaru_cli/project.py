"""`kitaru init` and `kitaru deploy`: from nothing to a version."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kitaru_cli.commands import BUILD, Output, command, open_client
from kitaru_cli.output import Answer, Format, item, items, progress_for
from kitaru_cli.tables import Facts, Part, Styled, bold, dim
from kitaru_cli.versions import git_text
from kitaru_cli.words import size

if TYPE_CHECKING:
    from kitaru_registry.models import BlobCounts, Deployed

DEFAULT_TEMPLATE = "review"


def add_to(app: typer.Typer) -> None:
    command(
        app,
        "init",
        examples=["kitaru init my-agent --template release_notes", "kitaru init --list"],
        section=BUILD,
    )(init)
    command(
        app,
        "deploy",
        examples=["kitaru deploy flows/review.py:review_flow", "kitaru deploy review_flow --tag canary"],
        section=BUILD,
    )(deploy)


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where; made if it is not there.", show_default=False)
    ] = Path(),
    template: Annotated[
        str, typer.Option("--template", "-t", metavar="NAME", help="What to start from.")
    ] = DEFAULT_TEMPLATE,
    list_: Annotated[bool, typer.Option("--list", help="List the templates, and write nothing.")] = False,
    output: Output = Format.text,
) -> Answer:
    """Start a project from a template. Nothing that is there is overwritten."""
    from kitaru import scaffolding

    if list_:
        names = scaffolding.templates()
        return items([{"template": name} for name in names], lambda: names)
    written = scaffolding.init(folder, template=template)
    body = {"folder": str(folder.resolve()), "template": template, "files": list(written)}
    return item(body, lambda: written_text(folder, written))


def deploy(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="PATH.py:FLOW", help="A flow in a file, or its name in kitaru.toml; by default its only one."
        ),
    ] = None,
    tag: Annotated[str | None, typer.Option("--tag", metavar="TAG", help="Move this tag to the version, too.")] = None,
    upgrade: Annotated[bool, typer.Option("--upgrade", help="Resolve the dependencies afresh.")] = False,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Take over a flow name that another project deployed.")
    ] = False,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", metavar="WHAT", help="Deploy what would be refused; the refusal names it."),
    ] = None,
    output: Output = Format.text,
) -> Answer:
    """Make the next version of a flow, from its code and its locked dependencies.

    No tag moves, except that `default` is given to the first version: a deploy is not a rollout.
    """
    with progress_for(output) as progress:
        deployed = open_client().deployments.create(
            target, tag=tag, upgrade=upgrade, adopt=adopt, allow=tuple(allow or ()), progress=progress
        )
    return item(deployed, lambda: deployed_text(deployed), notes=lambda: warnings_text(deployed))


def written_text(folder: Path, written: Sequence[str]) -> Sequence[Part]:
    where = "this folder" if folder == Path() else str(folder)
    step_in = [] if folder == Path() else [f"  cd {folder}"]
    return [bold(f"Wrote to {where}:"), *(f"  {name}" for name in written), "", "Next:", *step_in, "  kitaru deploy"]


def deployed_text(deployed: Deployed) -> Sequence[Part]:
    name = f"{deployed.flow} v{deployed.version}"
    headline = bold(f"Deployed {name}") if deployed.created else bold(f"{name} has these bytes already: nothing to do")
    facts = Facts(
        (
            ("digest", deployed.digest),
            ("blobs", blobs_text(deployed.blobs)),
            ("commit", git_text(deployed.git)),
            *(("changed" if not index else "", change) for index, change in enumerate(deployed.changed)),
            ("tags", ", ".join(deployed.tags) or "none"),
        )
    )
    parts: list[Part] = [headline, facts]
    if not deployed.tags:
        parts.append(f"No tag points at it yet: kitaru tag move default v{deployed.version} --flow {deployed.flow}")
    return parts


def blobs_text(blobs: BlobCounts) -> str:
    shared = blobs.total - blobs.new
    return f"{blobs.new} new ({size(blobs.bytes_new)}), {shared} shared ({size(blobs.bytes_total - blobs.bytes_new)})"


def warnings_text(deployed: Deployed) -> Sequence[Part]:
    return [Styled(f"warning: {warning}", "yellow") for warning in deployed.warnings] or [
        dim(f"try it: kitaru invoke {deployed.flow}@v{deployed.version}")
    ]
