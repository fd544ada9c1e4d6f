"""The root project has no wheel, and yet metadata."""

from __future__ import annotations

from kitaru_registry.snapshots.root_project import dist_info

PYPROJECT = b"""
[project]
name = "My.Agents"
version = "1.2"
[project.scripts]
agents = "agents:main"
[project.entry-points."agents.tools"]
search = "agents.tools:search"
"""


def test_name_version_and_entry_points_are_written() -> None:
    assert dist_info(PYPROJECT) == {
        "my_agents-1.2.dist-info/METADATA": b"Metadata-Version: 2.1\nName: My.Agents\nVersion: 1.2\n",
        "my_agents-1.2.dist-info/entry_points.txt": (
            b"[agents.tools]\nsearch = agents.tools:search\n\n[console_scripts]\nagents = agents:main\n"
        ),
    }


def test_a_computed_version_is_0() -> None:
    assert "agents-0.dist-info/METADATA" in dist_info(b'[project]\nname = "agents"\ndynamic = ["version"]\n')


def test_no_project_table_means_no_metadata() -> None:
    assert dist_info(b"[tool.ruff]\nline-length = 100\n") == {}
    assert dist_info(b"not toml [") == {}
