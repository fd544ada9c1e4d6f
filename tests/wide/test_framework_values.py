"""What agent frameworks pass about and raise comes back as it was, of their releases of today."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import framework_values
from uv import find_uv_bin

import kitaru_registry
import kitaru_runner

PACKAGES = (
    "pydantic-ai-slim", "openai", "langchain-core", "langgraph", "mcp", "litellm", "botocore", "httpx",
    "attrs", "numpy", "cloudpickle",
)  # fmt: skip


def test_what_frameworks_pass_about_and_raise_comes_back_as_it_was(tmp_path: Path) -> None:
    uv, python = find_uv_bin(), tmp_path / "env" / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "env"], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *PACKAGES], check=True)
    program = Path(framework_values.__file__)
    folders = [Path(str(package.__file__)).parents[1] for package in (kitaru_runner, kitaru_registry)]

    said = subprocess.run(
        [python, program, program.parent, *dict.fromkeys(folders)],
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}, check=True, capture_output=True, text=True,
    )  # fmt: skip

    assert json.loads(said.stdout.splitlines()[-1]) == {}
