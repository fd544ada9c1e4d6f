"""Every command, with any words: one error and its exit code, or an answer; never a traceback of ours."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import typer
from bad_words import words
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_records import write_odd_records, write_versions
from queues import Queue

from kitaru_cli.main import build, run
from kitaru_registry.database.opening import open_database
from kitaru_registry.executions.journal import JournalWriter
from kitaru_registry.home import Home

EXAMPLES = 400 if os.environ.get("KITARU_SOAK") else 60
"""Of each group of commands."""

CODES = (0, 1, 2, 3, 4, 6)
LEFT_OUT = ("runner", "runner start", "runner stop", "deploy")
"""They start and end processes, or build. Of deploy's words its own tests try those that name a file."""

ALWAYS = {"detach": "--detach"}
NEVER = ("follow", "help")


class Command:
    """A command as it is declared."""

    def __init__(self, path: Sequence[str], declared: Any) -> None:
        self.path = list(path)
        self.arguments = [each for each in declared.params if each.param_type_name == "argument"]
        options = [each for each in declared.params if each.param_type_name != "argument" and each.name not in NEVER]
        self.always = [ALWAYS[each.name] for each in options if each.name in ALWAYS]
        self.options = [each for each in options if each.name not in (*ALWAYS, "output")]


def walk(declared: Any, path: tuple[str, ...] = ()) -> Iterator[Command]:
    for name, inner in getattr(declared, "commands", {}).items():
        yield from walk(inner, (*path, name))
    if " ".join(path) not in LEFT_OUT:
        yield Command(path, declared)


COMMANDS = list(walk(typer.main.get_command(build())))
GROUPS = sorted({(command.path or ["kitaru"])[0] for command in COMMANDS})

FITTING = {
    "flow": ["review", "review@v1", "review@stable"], "ref": ["review@v1"], "tag": ["stable", "default", "canary"],
    "version": ["v1", "1", "v2"], "to": ["v1", "out"], "limit": ["3"], "size": ["3"], "page": ["1"], "since": ["2h"],
    "before": ["2h"], "status": ["completed", "failed", "waiting"], "where": ["topic=x", "k=1"], "depth": ["2"],
    "input": ['{"topic":"x"}'], "value": ["true", "{}", "1"], "wait": ["approve"], "key": ["approve"],
    "timeout": ["0.1"], "attempt": ["1"], "offset": ["0"], "source": ["flow"], "checkpoint": ["odd"], "name": ["odd"],
    "kind": ["manual", "result"], "type_": ["output"], "on": ["v1"], "from_": ["odd", "bad"], "accept": ["odd"],
    "overrides": ['{"checkpoint.odd":1}'], "template": ["review"], "interval": ["0.1"],
}  # fmt: skip
"""What an option is made for: a line with one bad word among good ones comes further than one of bad words alone."""

WRITE, WRITTEN_TO = ("init", "artifacts"), ("folder", "to")
"""What these commands write to: only what is below the folder that the test owns."""

NAME_EXECUTIONS = ("execution", "executions", "parent", "replay_of", "replay", "a", "b", "artifact")


@pytest.fixture(scope="module")
def ids(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Of executions in a home and a project of the module's own."""
    folder = tmp_path_factory.mktemp("words")
    (folder / "project").mkdir()
    (folder / "project" / "kitaru.toml").write_text("[runner]\nautostart = false\n")
    home = Home(folder / "home")
    database = open_database(home, synchronous="OFF")
    queue = Queue(database, JournalWriter(database))
    write_versions(queue, str(folder / "project"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KITARU_HOME", str(home.root))
        patch.setenv("KITARU_ACTOR", "ada@analytical")
        patch.chdir(folder / "project")
        yield write_odd_records(queue)
    queue.writer.close()
    database.close()


@st.composite
def lines(draw: st.DrawFn, commands: Sequence[Command], ids: Sequence[str]) -> list[str]:
    command = draw(st.sampled_from(commands))
    line = [*command.path, *command.always]
    any_word = words([*ids, "review", "stable", "approve"])

    def word(name: str) -> str:
        fitting = [*ids, f"{ids[-1]}/odd"] if name in NAME_EXECUTIONS else FITTING.get(name)
        drawn = draw(st.sampled_from(fitting) if fitting and draw(st.integers(0, 3)) else any_word)
        return (
            f"below/{drawn.replace('..', '.')}"
            if command.path[:1] and command.path[0] in WRITE and name in WRITTEN_TO
            else drawn
        )

    for option in command.options:
        if not draw(st.integers(0, 3)):
            line += [option.opts[0]] if option.is_flag else [option.opts[0], word(option.name)]
    line += ["-o", "json"] * draw(st.integers(0, 1)) if command.path else []
    line += ["--"] * draw(st.integers(0, 1))
    return line + [word(each.name) for each in command.arguments if each.required or draw(st.booleans())]


def outcome(line: Sequence[str]) -> tuple[int, str, str]:
    """Exit code and output, on streams as strict as a terminal's."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace", write_through=True)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr("sys.stdin", io.StringIO(""))
        code = run(line)
    return code, *(stream.buffer.getvalue().decode() for stream in (out, err))  # type: ignore[attr-defined]


SHOWING = (["executions", "get"], ["artifacts", "list"], ["waits", "list", "--exec"], ["executions", "logs"])


def test_what_is_hard_to_show_is_shown(ids: list[str]) -> None:
    for line in [*([*command, exec_id] for exec_id in ids for command in SHOWING), ["executions", "list"], ["status"]]:
        code, _, err = outcome(line)
        assert code == 0, err
        code, out, _ = outcome([*line, "-o", "json"])
        assert code == 0
        assert json.loads(out)


@pytest.mark.parametrize("group", GROUPS)
def test_any_words_give_an_answer_or_one_error(ids: list[str], group: str) -> None:
    commands = [command for command in COMMANDS if (command.path or ["kitaru"])[0] == group]

    @settings(max_examples=EXAMPLES * len(commands) // 4, deadline=None, suppress_health_check=list(HealthCheck))
    @given(lines(commands, ids))
    def check(line: list[str]) -> None:
        code, out, err = outcome(line)

        assert code in CODES
        if "json" in line and line[line.index("json") - 1] == "-o" and code in (0, 6) and "-h" not in line:
            json.loads(out)
        elif code not in (0, 6):
            assert err or out  # doctor's findings are its answer

    check()
