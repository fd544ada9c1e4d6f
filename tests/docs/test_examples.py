"""Every fenced example of the README and of docs/ does what the page says.

A page runs from top to bottom, in an empty folder that is a git repository without commits, on an empty home:

    ```python review.py      the block becomes that file; so do toml, json, text blocks that name a file
    ```python                runs as a script in the page's folder, and must not fail
    ```console               each `$ command` runs in one shell; what stands below it is what it prints

In expected output `...` is anything, and as a line of its own any lines or none; runs of blanks are one; digests,
durations and sizes are any. Execution ids are any too, and a later command of the page that names one is given the one
that really came. A command that ends with another code than 0 says so: `$ kitaru invoke ...  # exit code 6`. A fence
without one of these words is a sketch, and is not run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kitaru_registry.home import Home

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PATIENCE_SECONDS = 180

FENCE = re.compile(r"^```(?P<words>\w+[^\n`]*)\n(?P<body>.*?)^```$", re.M | re.S)
EXIT_CODE = re.compile(r"\s+# exit code (\d+)$")
# An execution's id, whole or as commands shorten it.
ID = r"(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?=[0-9a-f]*[0-9])[0-9a-f]{8})"
# What differs from run to run.
WILD = re.compile(
    rf"(?P<id>\b{ID}\b)|(?P<digest>\bsha256:[0-9a-f]{{6,64}}\b)|(?P<ago>\b\d+s ago\b)|(?P<took>\b\d+(\.\d+)?m?s\b)"
    r"|(?P<size>\b\d+(\.\d+)? [kKMG]?B\b)|(?P<lines>^\.\.\.\n)|(?P<gap>\.\.\.)",
    re.M,
)


@dataclass(frozen=True)
class Example:
    page: str
    line: int
    language: str
    file: str | None
    body: str


@dataclass
class Page:
    """Where a page runs: its folder, its environment, and which real execution each documented id stands for."""

    folder: Path
    environment: dict[str, str]
    ids: dict[str, str] = field(default_factory=dict)


def examples_of(page: Path) -> list[Example]:
    text = page.read_text()
    found = []
    for fence in FENCE.finditer(text):
        language, _, file = fence["words"].strip().partition(" ")
        line = text.count("\n", 0, fence.start()) + 1
        found.append(Example(page.name, line, language, file.strip() or None, fence["body"]))
    return found


def commands_of(body: str) -> list[tuple[str, int, str]]:
    """Each command of a console block, its exit code, and what it prints."""
    found = []
    for part in re.split(r"^\$ ", body, flags=re.M)[1:]:
        # A backslash at a line's end continues the command.
        command, _, output = re.sub(r"\\\n(> )?", " ", part).partition("\n")
        code = EXIT_CODE.search(command)
        found.append((EXIT_CODE.sub("", command), int(code[1]) if code else 0, output))
    return found


def pattern_of(expected: str) -> tuple[re.Pattern[str], list[str]]:
    """What real output must match, and the documented ids in the order of its groups."""
    ids: list[str] = []
    parts: list[str] = []
    at = 0
    expected = squeezed(expected)
    for wild in WILD.finditer(expected):
        parts.append(re.escape(expected[at : wild.start()]))
        at = wild.end()
        if wild["lines"]:
            parts.append(r"(?:.*?\n)?")
        elif wild["gap"]:
            parts.append(r".*?")
        elif wild["digest"]:
            parts.append(r"sha256:[0-9a-f]+")
        elif wild["ago"]:
            parts.append(r"(?:\d+[smh] ago|now)")
        elif wild["took"]:
            parts.append(r"(?:\d+(?:\.\d+)?m?s|\d+m \d+s)")
        elif wild["size"]:
            parts.append(r"\d+(?:\.\d+)? [kKMG]?B")
        elif wild["id"] in ids:
            parts.append(rf"(?P=id{ids.index(wild['id'])})")
        else:
            parts.append(rf"(?P<id{len(ids)}>{ID})")
            ids.append(wild["id"])
    parts.append(re.escape(expected[at:]))
    return re.compile("".join(parts), re.S), ids


def squeezed(text: str) -> str:
    """Every line with single blanks, and a line's end."""
    return "".join(" ".join(line.split()) + "\n" for line in text.strip().splitlines())


def run(page: Page, command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=page.folder,
        env=page.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_SECONDS,
    )


def check_console(page: Page, example: Example) -> None:
    for command, code, expected in commands_of(example.body):
        typed = re.sub(rf"\b{ID}\b", lambda match: page.ids.get(match[0], match[0]), command)
        done = run(page, ["bash", "-c", typed])
        told = f"{example.page}, line {example.line}: $ {command}\n\n{done.stdout}\n--- the page says ---\n{expected}"
        assert done.returncode == code, f"exit code {done.returncode}, not {code}: {told}"
        pattern, ids = pattern_of(expected)
        match = pattern.fullmatch(squeezed(done.stdout))
        assert match, told
        page.ids.update(zip(ids, match.groups(), strict=True))


def check_python(page: Page, example: Example) -> None:
    done = run(page, [sys.executable, "-W", "error", "-c", example.body])
    assert done.returncode == 0, f"{example.page}, line {example.line}:\n{done.stdout}"


def write_file(page: Page, example: Example) -> None:
    assert example.file
    path = page.folder / example.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(example.body)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_examples_of_a_page_do_what_it_says(path: Path, home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    subprocess.run(["git", "init", "--quiet", "--initial-branch", "main", str(folder)], check=True)
    binaries = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "100",
        "KITARU_ACTOR": "ana@laptop",
    }
    page = Page(folder, environment)
    for example in examples_of(path):
        if example.file:
            write_file(page, example)
        elif example.language == "console":
            check_console(page, example)
        elif example.language == "python":
            check_python(page, example)


def test_the_pages_that_are_promised_are_there() -> None:
    names = {path.name for path in PAGES}

    assert names >= {
        "README.md",
        "concepts.md",
        "guarantees.md",
        "snapshot-format.md",
        "journal-protocol.md",
        "kitaru-toml.md",
    }


@pytest.mark.parametrize("path", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda path: path.name)
def test_every_link_to_a_file_of_the_repository_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!\w+:)([^)#]+)", path.read_text())

    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_words_of_a_page_are_understood() -> None:
    body = "$ echo one \\\n  two  # exit code 3\none two\n$ true\n"

    assert commands_of(body) == [("echo one    two", 3, "one two\n"), ("true", 0, "")]


def test_measures_and_short_ids_are_any() -> None:
    pattern, ids = pattern_of("93a1b9e0  review_flow  v1  2s ago  7.0s  3.3 MB")

    assert ids == ["93a1b9e0"]
    assert pattern.fullmatch("00c0ffee review_flow v1 now 1m 05s 0 B\n")
    assert not pattern.fullmatch("00c0ffee review_flow v2 13s ago 850ms 0 B\n")


def test_an_id_stands_for_one_execution_and_a_gap_for_anything() -> None:
    documented = "0199ae2b-5a07-7c9e-8a61-0c7b2b8e51f4"
    real = "0199ffff-0000-7000-8000-000000000001"
    pattern, ids = pattern_of(f"{documented}   waiting\n...\n{documented} is sha256:3f2a1b")

    assert ids == [documented]
    assert pattern.fullmatch(f"{real} waiting\nmore\nand more\n{real} is sha256:00ff00aa\n")
    assert pattern.fullmatch(f"{real} waiting\n{real} is sha256:00ff00aa\n")
    assert not pattern.fullmatch(f"{real} waiting\n\n{documented} is sha256:00ff00aa\n")
