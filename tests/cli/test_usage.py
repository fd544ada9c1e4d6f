"""What holds for every command, and for every command line that is none."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import typer

if TYPE_CHECKING:
    from tests.cli.conftest import Kitaru

from kitaru_cli.main import build


def walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every command of the app by its full name; a group is one if its name alone does something."""
    for key, child in getattr(command, "commands", {}).items():
        yield from walk(child, f"{name}.{key}" if name else key)
    if name and (not hasattr(command, "commands") or name == "runner"):
        yield name, command


COMMANDS = dict(walk(typer.main.get_command(build()), ""))


def test_the_commands_are_those_that_scripts_rely_on() -> None:
    assert sorted(COMMANDS) == sorted(
        [
            *("init", "deploy", "run", "invoke", "flows", "diff", "status", "doctor", "migrate"),
            *(f"tag.{name}" for name in ("move", "rollback", "list", "history", "delete")),
            *(f"versions.{name}" for name in ("list", "show", "delete")),
            *(
                f"executions.{name}"
                for name in ("list", "get", "logs", "input", "resume", "retry", "replay", "cancel", "delete")
            ),
            *(f"artifacts.{name}" for name in ("list", "show", "download", "lineage")),
            *(f"waits.{name}" for name in ("list", "show", "answer")),
            *("runner", "runner.drain", "runner.list", "runner.start", "runner.stop", "gc"),
        ]
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_an_example_and_output(name: str, kitaru: Kitaru) -> None:
    asked = kitaru(*name.split("."), "--help")

    assert asked.code == 0
    assert len(COMMANDS[name].help.split()) > 3
    assert f"  $ kitaru {name.replace('.', ' ')}" in asked.out
    assert "-o, --output <text|json>" in asked.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_parameter_of_a_command_has_help(name: str) -> None:
    assert [param.name for param in COMMANDS[name].params if not param.help] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_fits_80_columns(name: str, kitaru: Kitaru) -> None:
    asked = kitaru(*name.split("."), "--help")

    assert [line for line in asked.out.splitlines() if len(line) > 80 and "$ kitaru" not in line] == []


def test_the_version_is_printed(kitaru: Kitaru) -> None:
    asked = kitaru("--version")

    assert (asked.code, asked.err) == (0, "")
    assert asked.out.startswith("kitaru 0.")


@pytest.mark.parametrize(
    ("line", "command", "message", "hint"),
    [
        ("depoly x", "kitaru", "no such command 'depoly'", "did you mean deploy?"),
        ("tag moev a v1", "tag", "no such command 'moev'", "did you mean move?"),
        ("tag move a v1 --flwo f", "tag.move", "no such option: --flwo", "did you mean --flow?"),
        ("tag move a", "tag.move", "missing argument 'VERSION'", "kitaru tag move --help"),
        ("tag move a v1 extra", "tag.move", "unexpected extra argument(s) (extra)", "kitaru tag move --help"),
        ("invoke f --timeout soon", "invoke", "invalid value for '--timeout'", "kitaru invoke --help"),
        ("executions list --limit 0", "executions.list", "invalid value for '--limit'", "executions list --help"),
    ],
)
def test_a_wrong_command_line_is_refused_in_the_callers_format(
    line: str, command: str, message: str, hint: str, kitaru: Kitaru
) -> None:
    as_text = kitaru(*line.split())
    as_json = kitaru(*line.split(), "-o", "json")

    assert (as_text.code, as_json.code) == (2, 2)
    assert as_text.err.startswith(f"kitaru: {message}")
    assert hint in as_text.err
    assert as_text.out == ""
    assert as_json.error["type"] == "KitaruUsageError"
    assert as_json.error["message"].startswith(message)
    assert hint in as_json.error["hint"]
    assert json.loads(as_json.err)["command"] == command


@pytest.mark.parametrize("spelling", [["-o", "json"], ["-ojson"], ["--output", "json"], ["--output=json"]])
def test_every_spelling_of_output_json_is_understood_in_a_broken_line(spelling: list[str], kitaru: Kitaru) -> None:
    assert kitaru("tag", "move", *spelling).error["type"] == "KitaruUsageError"


def test_an_unknown_format_is_refused_as_text(kitaru: Kitaru) -> None:
    asked = kitaru("flows", "-o", "yaml")

    assert asked.code == 2
    assert "'yaml' is not one of 'text', 'json'" in asked.err


@pytest.mark.parametrize("line", ["", "tag", "versions", "executions", "waits"])
def test_a_group_alone_prints_its_help_and_does_nothing(line: str, kitaru: Kitaru) -> None:
    asked = kitaru(*line.split())

    assert (asked.code, asked.out) == (2, "")
    assert asked.err.startswith("Usage: kitaru")


HEAVY = {"pydantic", "sqlalchemy", "git", "jsonschema", "cloudpickle", "rich", "asyncio"}


@pytest.mark.parametrize("line", ["--help", "--version", "tag --help", "invoke --help"])
def test_help_loads_nothing_heavy(line: str) -> None:
    program = (
        "import sys; from kitaru_cli.main import run; code = run(sys.argv[1:]);"
        f"print(code, sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )

    done = subprocess.run([sys.executable, "-c", program, *line.split()], capture_output=True, text=True, check=True)

    assert done.stderr == "0 []\n"
