"""How a command is declared: its name, help, example and `--output`, and the one place where errors end."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Annotated, ParamSpec, Protocol

import typer
from typer.core import TyperGroup, TyperOption

from kitaru_cli.output import Answer, Format, print_answer, print_error

if TYPE_CHECKING:
    from kitaru import KitaruClient

P = ParamSpec("P")

BUILD, ROUTE, LOOK, MACHINE = SECTIONS = ("Build and run", "Route", "Look", "This machine")
"""The headings of `kitaru --help`, in its order."""

# Said once, so that the same thing has the same name and the same words in every command.
Output = Annotated[Format, typer.Option("--output", "-o", help="For people, or for scripts.")]
FlowOption = Annotated[
    str | None,
    typer.Option("--flow", metavar="FLOW", help="By default that of kitaru.toml, or the only one there is."),
]
Reason = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why; kept in the record.")]
ExecutionArgument = Annotated[
    str, typer.Argument(metavar="EXECUTION", help="Its id, or enough of the id's beginning or end.")
]


class HelpFormatter(Protocol):
    """What is used of click's; newer typers carry a click of their own, which has no public name."""

    width: int

    def section(self, name: str) -> AbstractContextManager[None]: ...
    def write_dl(self, rows: Sequence[tuple[str, str]]) -> None: ...


class SectionedGroup(TyperGroup):
    """A group whose help lists its commands under headings; without Rich, which would double the time it takes."""

    def get_help_option(self, ctx: typer.Context) -> TyperOption | None:  # type: ignore[override]  # see HelpFormatter
        option = super().get_help_option(ctx)
        if option is not None:
            # Left at None, typer converts it with pydantic, in every command below the group: 0.1 s.
            option.default = False
        return option

    def format_commands(self, ctx: object, formatter: HelpFormatter) -> None:
        sections: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
        longest = max(len(name) for name in self.commands)
        for name, command in self.commands.items():
            panel = getattr(command, "rich_help_panel", None)
            short = command.get_short_help_str(formatter.width - longest - 6)
            sections[panel if panel in SECTIONS else "Commands"].append((name.ljust(longest), short))
        for heading in ("Commands", *SECTIONS):
            if heading in sections:
                with formatter.section(heading):
                    formatter.write_dl(sections[heading])


def new_app(about: str, *, examples: Sequence[str] = ()) -> typer.Typer:
    return typer.Typer(
        help=about,
        epilog=examples_text(examples),
        cls=SectionedGroup,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )


def examples_text(examples: Sequence[str]) -> str | None:
    # A line with \b alone tells click to leave the line breaks of the paragraph.
    return "\n".join(["\b", "Examples:", *(f"  $ {line}" for line in examples)]) if examples else None


def show_help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


def group(
    app: typer.Typer,
    name: str,
    about: str,
    *,
    section: str,
    alone: Callable[..., None] = show_help,
    examples: Sequence[str] = (),
) -> typer.Typer:
    """A new group of commands under the app; `alone` is what its name does without a command."""
    commands = new_app(about, examples=examples)
    commands.callback(invoke_without_command=True)(alone)
    app.add_typer(commands, name=name, rich_help_panel=section)
    return commands


def command(
    app: typer.Typer, name: str, *, examples: Sequence[str], section: str | None = None
) -> Callable[[Callable[P, Answer]], Callable[P, None]]:
    """Add a function as a command: what it returns is printed, a KitaruError that it raises ends here.

    Args:
        name: as scripts see it in JSON: `tag.move` is `kitaru tag move`.
    """

    def register(function: Callable[P, Answer]) -> Callable[P, None]:
        run = answering(name, function)
        app.command(
            name.rpartition(".")[2],
            epilog=examples_text(examples),
            rich_help_panel=section,
        )(run)
        return run

    return register


def answering(name: str, function: Callable[P, Answer]) -> Callable[P, None]:
    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        from kitaru_registry.errors import KitaruError

        output = kwargs.get("output")
        assert isinstance(output, Format)
        try:
            answer = function(*args, **kwargs)
        except KitaruError as error:
            print_error(name, error, output)
            raise typer.Exit(error.exit_code) from error
        print_answer(name, answer, output)
        look_after_home()
        if answer.exit_code:
            raise typer.Exit(answer.exit_code)

    return run


def open_client() -> KitaruClient:
    """The registry of this home, for the project of this folder."""
    from kitaru import KitaruClient

    opened = KitaruClient()
    _opened.append(opened)
    return opened


_opened: list[KitaruClient] = []


def look_after_home() -> None:
    """Whatever command has looked at a home that a dead runner has left work in lets it go on, once it has answered."""
    from kitaru_registry.errors import KitaruError

    while _opened:
        with suppress(KitaruError, OSError):  # it has answered: nobody asked for this
            _opened.pop().runner.look_after_home()
