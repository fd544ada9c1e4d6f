"""The dist-info of the root project, whose code is the code blob and never a wheel.

So `importlib.metadata.version("my-agents")` and the project's own entry points work in a deployed flow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kitaru_registry import toml_text

UNKNOWN_VERSION = "0"
"""Of a project whose version its build backend would have computed."""


def dist_info(pyproject: bytes) -> dict[str, bytes]:
    """Path to content of the files to generate; none where the project has no name, or is Kitaru itself."""
    try:
        project = toml_text.parse(pyproject.decode()).get("project")
    except ValueError:
        return {}
    if not isinstance(project, Mapping) or not isinstance(project.get("name"), str) or project["name"] == "kitaru":
        return {}
    version = project.get("version", UNKNOWN_VERSION)
    folder = f"{re.sub(r'[-_.]+', '_', project['name']).lower()}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {version}\n"
    files = {f"{folder}/METADATA": metadata.encode()}
    entry_points = entry_points_text(project)
    if entry_points:
        files[f"{folder}/entry_points.txt"] = entry_points.encode()
    return files


def entry_points_text(project: Mapping[str, Any]) -> str:
    """The project's entry points in their ini form. Entry points specification, "File format"."""
    groups = {"console_scripts": project.get("scripts", {}), "gui_scripts": project.get("gui-scripts", {})}
    groups |= project.get("entry-points", {})
    sections = [
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in sorted(entries.items()))
        for group, entries in sorted(groups.items())
        if entries
    ]
    return "\n".join(sections)
