"""`kitaru`: the command line. Every command parses, calls one function of the SDK, and prints.

Exit codes: 0 done, 1 failed, 2 wrong usage or input, 3 not found, 4 conflict, 6 not finished, 130 Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from kitaru_cli import again, artifacts, deleting, executions, home, project, running, tags, versions, waits
from kitaru_cli.commands import new_app, show_help
from kitaru_cli.execution_text import NOT_FINISHED
from kitaru_cli.output import Format, print_error

INTERRUPTED = 130
UNFINISHED = (NOT_FINISHED, INTERRUPTED)

ABOUT = "Deploy Python agents as immutable versions, route tags to them, and keep them running."

# Every error about the command line itself is one of these, whichever click typer stands on.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def build() -> typer.Typer:
    app = new_app(ABOUT)
    app.callback(invoke_without_command=True)(root)
    for commands in (project, running, versions, tags, executions, again, waits, artifacts, home, deleting):
        commands.add_to(app)
    return app


def print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"kitaru {version('kitaru')}")
        raise typer.Exit()


def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=print_version, help="Print the version, and exit.")
    ] = False,
) -> None:
    show_help(context)


def main() -> None:
    code = run(sys.argv[1:])
    if code in UNFINISHED:
        # The flow of `kitaru run` still stands in its thread, and the interpreter would wait for it for ever.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code."""
    declared = build()
    keep_what_is_named(declared, arguments)
    app = typer.main.get_command(declared)
    try:
        code = app.main(args=list(arguments), prog_name="kitaru", standalone_mode=False)
    except UsageError as error:
        return report_usage(error, arguments)
    except (typer.Abort, KeyboardInterrupt):
        print(file=sys.stderr)
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def keep_what_is_named(app: typer.Typer, arguments: Sequence[str]) -> None:
    """Take all other commands away, where the line begins with one: typer evaluates the signature of each, for 40 ms.

    A line that names none keeps all: those are what its help, or its error, is about.
    """
    name = arguments[0] if arguments else ""
    groups = [group for group in app.registered_groups if group.name == name]
    commands = [command for command in app.registered_commands if command.name == name]
    if groups or commands:
        app.registered_groups, app.registered_commands = groups, commands
    for group in groups:
        if group.typer_instance is not None:
            keep_what_is_named(group.typer_instance, arguments[1:])


def report_usage(error: Exception, arguments: Sequence[str]) -> int:
    from kitaru_registry.errors import KitaruUsageError

    context: typer.Context | None = getattr(error, "ctx", None)
    path = context.command_path if context else "kitaru"
    message, hint = usage_words(error, path)
    print_error(
        path.removeprefix("kitaru").strip().replace(" ", ".") or "kitaru",
        KitaruUsageError(message, hint=hint),
        format_wanted(arguments),
    )
    return KitaruUsageError.exit_code


def usage_words(error: Exception, path: str) -> tuple[str, str]:
    """The message and the hint: the nearest names where there are some, else where the help is."""
    said: str = error.format_message() if hasattr(error, "format_message") else str(error)
    possibilities: Sequence[str] = getattr(error, "possibilities", None) or ()
    if possibilities:
        said = str(getattr(error, "message", said))
    said, _, suggested = said.partition(" Did you mean ")
    near = ", ".join(sorted(possibilities)) or suggested.rstrip("?").replace("'", "")
    hint = f"did you mean {near}? see {path} --help" if near else f"{path} --help"
    words = " ".join(said.removeprefix("Got ").replace(" Value error,", "").split()).rstrip(".")
    return words[:1].lower() + words[1:], hint


def format_wanted(arguments: Sequence[str]) -> Format:
    """What `--output` says in a command line that could not be parsed."""
    own = list(arguments[: arguments.index("--")] if "--" in arguments else arguments)
    pairs = zip(own, [*own[1:], ""], strict=True)
    as_json = any(
        word in ("-ojson", "-o=json", "--output=json") or (word in ("-o", "--output") and value == "json")
        for word, value in pairs
    )
    return Format.json if as_json else Format.text
