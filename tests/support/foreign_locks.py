"""Locks that other tools make of the most used packages, and what uv installs from them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name, parse_wheel_filename
from uv import find_uv_bin

TOP_40 = (
    *("boto3", "urllib3", "requests", "certifi", "typing-extensions", "charset-normalizer", "idna", "setuptools"),
    *("packaging", "numpy", "python-dateutil", "six", "fsspec", "PyYAML==6.0.2", "cryptography", "pydantic", "cffi"),
    *("attrs", "click", "Jinja2", "MarkupSafe==3.0.2", "pandas", "pytz", "protobuf", "google-auth", "PyJWT==2.10.1"),
    *("aiohttp", "httpx", "anyio", "rich", "Pygments", "SQLAlchemy==2.0.36", "psutil", "websockets", "fastapi"),
    *("Flask==2.2.0", "Django==4.2.0", "pillow", "ruamel.yaml==0.18.6", "zope.event==5.0"),
)
"""Some in releases whose files were published under other spellings than tools write today."""

TOOLS = ("uv", "pip", "pdm", "poetry")
# hishel 2 is not what pdm 2.29 was written for.
PACKAGES_OF_TOOLS = ("pip>=25.1", "pdm", "hishel<2", "poetry", "poetry-plugin-export>=1.9")
MACHINE = "x86_64-manylinux_2_34"
"""For uv; what `PLATFORMS` are."""
PLATFORMS = (
    "linux_x86_64",
    *(f"manylinux_2_{minor}_x86_64" for minor in range(34, 4, -1)),
    *("manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"),
)
OF_THIS_MACHINE = {
    "os_name": "posix",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
}


def install_tools(folder: Path) -> Path:
    """Where the programs of the tools are."""
    made = ["venv", "-q", "--python", sys.executable, folder]
    for command in (made, ["pip", "install", "-q", "--python", folder, *PACKAGES_OF_TOOLS]):
        subprocess.run([find_uv_bin(), *command], check=True, stderr=subprocess.DEVNULL)
    return folder / "bin"


def lock_with(tool: str, folder: Path, programs: Path) -> Path:
    """The PEP 751 lock that a tool makes of `TOP_40` in an empty folder."""
    needs = list(TOP_40)
    project = f'[project]\nname = "forty"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = {needs}\n'
    source = f'[[tool.poetry.source]]\nname = "index"\nurl = "{_index(programs)}"\npriority = "primary"\n'
    (folder / "pyproject.toml").write_text(f"{project}[tool.poetry]\npackage-mode = false\n{source}")
    (folder / "needs.txt").write_text("\n".join(needs))
    commands: Mapping[str, list[list[str | Path]]] = {
        "uv": [
            [find_uv_bin(), "lock", "-q"],
            [find_uv_bin(), "export", "-q", "--locked", "--no-emit-project", "-o", "pylock.toml"],
        ],
        "pip": [[programs / "pip", "lock", "-q", "-r", "needs.txt", "-o", "pylock.toml"]],
        "pdm": [
            [programs / "pdm", "config", "--local", "lock.format", "pylock"],
            [programs / "pdm", "use", "-f", programs / "python"],
            [programs / "pdm", "lock"],
        ],
        "poetry": [
            [programs / "poetry", "lock"],
            [programs / "poetry", "export", "-f", "pylock.toml", "-o", "pylock.toml"],
        ],
    }
    for command in commands[tool]:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, f"{tool}: {(done.stderr + done.stdout)[-2000:]}"
    return folder / "pylock.toml"


def _index(programs: Path) -> str:
    """pip's index: poetry asks another service of it by default, which not every mirror has."""
    code = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"
    default = subprocess.run([programs / "python", "-c", code], capture_output=True, text=True, check=True).stdout
    return os.environ.get("PIP_INDEX_URL") or default.strip()


def chosen_by_uv(pylock: Path, lock: Mapping[str, Any], *, minor: str) -> dict[str, str]:
    """Name to file name of each wheel that uv installs for a minor, told by the tags of what it installed."""
    with tempfile.TemporaryDirectory() as target:
        options = ["--target", target, "--python-version", minor, "--python-platform", MACHINE]
        command = [find_uv_bin(), "pip", "install", "-q", "--no-deps", "--no-build", *options, "-r", pylock]
        done = subprocess.run(command, cwd=pylock.parent, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        return dict(_installed(info, lock) for info in sorted(Path(target).glob("*.dist-info")))


def _installed(info: Path, lock: Mapping[str, Any]) -> tuple[str, str]:
    facts = _headers(info / "METADATA")
    name, version = canonicalize_name(facts["Name"][0]), facts["Version"][0]
    tags = set(_headers(info / "WHEEL")["Tag"])
    offered = [wheel for package in lock["packages"] if _is(package, name, version) for wheel in package["wheels"]]
    names = [published_name(wheel) for wheel in offered]
    fitting = [filename for filename in names if {str(tag) for tag in parse_wheel_filename(filename)[3]} & tags]
    exact = [filename for filename in fitting if {str(tag) for tag in parse_wheel_filename(filename)[3]} == tags]
    (chosen,) = set(exact or fitting)
    return name, chosen


def _is(package: Mapping[str, Any], name: str, version: str) -> bool:
    return canonicalize_name(package["name"]) == name and package["version"] == version


def _headers(file: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in file.read_text().split("\n\n")[0].splitlines():
        key, _, value = line.partition(": ")
        found.setdefault(key, []).append(value.strip())
    return found


def published_name(wheel: Mapping[str, Any]) -> str:
    return str(wheel["url"]).rpartition("/")[2].replace("%2B", "+")


def recorded(lock: Mapping[str, Any], *, keep: Callable[[str], bool]) -> str:
    """The lock as small TOML: a host that is none, and of the wheels those to keep."""
    lines = [f"{key} = {_toml(value)}" for key, value in lock.items() if key not in ("packages", "tool")]
    for package in lock["packages"]:
        kept = {key: package[key] for key in ("name", "version", "marker", "requires-python") if key in package}
        lines += ["", "[[packages]]", *(f"{key} = {_toml(value)}" for key, value in kept.items())]
        wheels = [wheel for wheel in package.get("wheels", ()) if keep(published_name(wheel))]
        lines += ["wheels = [", *(f"    {_toml(_entry(wheel))}," for wheel in wheels), "]"]
    return "\n".join(lines) + "\n"


def for_this_machine(filename: str) -> bool:
    """Whether a wheel might be chosen on it, or is one that must not be."""
    return any(
        (tag.abi == "abi3" or tag.interpreter in ("py2", "py3", "cp311", "cp312", "cp313"))
        and (tag.platform == "any" or tag.platform == "win32" or ("linux" in tag.platform and "x86_64" in tag.platform))
        for tag in parse_wheel_filename(filename)[3]
    )


def _entry(wheel: Mapping[str, Any]) -> dict[str, Any]:
    filename = str(wheel["url"]).rpartition("/")[2]
    named = {"name": wheel["name"]} if "name" in wheel else {}
    return {**named, "url": f"https://files.example/{filename}", "hashes": {"sha256": wheel["hashes"]["sha256"]}}


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, str):
        return "'" + value + "'" if '"' in value else f'"{value}"'
    if isinstance(value, Iterable):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)
