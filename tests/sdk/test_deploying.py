"""Story 1, with real code, real wheels and a real environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kitaru import KitaruClient
from kitaru_registry.canonical import hex_of
from kitaru_registry.database.opening import open_database
from kitaru_registry.deployments import tags
from kitaru_registry.deployments.refs import parse_ref
from kitaru_registry.deployments.tags import Author
from kitaru_registry.deployments.versions import list_flows, list_versions, show_version
from kitaru_registry.errors import KitaruConflictError, KitaruDeployError, KitaruStateError, KitaruUsageError
from kitaru_registry.home import Home
from kitaru_registry.models import Deployed, VersionDetail
from kitaru_registry.snapshots.artifact import verify
from kitaru_registry.stores.layout import OciLayout

CODE = """\
from kitaru import checkpoint, flow


@checkpoint
def draft(topic: str) -> str:
    return f"About {topic}"


@flow
def review(topic: str, count: int = 3) -> str:
    return draft(topic) * count


review.run(topic="Durable agents").wait()
"""
TARGET = "flows/review.py:review"
ME = "me@test"
GIT = ("git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KITARU_ACTOR", ME)
    folder = tmp_path / "project"
    (folder / "flows").mkdir(parents=True)
    (folder / "flows" / "review.py").write_text(CODE)
    (folder / "kitaru.toml").write_text(f'[flows.review]\nentrypoint = "{TARGET}"\n')
    return folder


def edit(project: Path, old: str, new: str) -> None:
    file = project / "flows" / "review.py"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def versions(home: Home) -> list[VersionDetail]:
    database = open_database(home)
    try:
        return list_versions(database, project="default")
    finally:
        database.close()


def deployed(project: Path, home: Home, target: str | None = TARGET, *, tag: str | None = None) -> Deployed:
    return KitaruClient(home, cwd=project).deployments.create(target, tag=tag)


def test_the_first_deploy_is_v1_whole_in_the_layout(project: Path, home: Home) -> None:
    first = deployed(project, home)

    assert (first.flow, first.version, first.created, first.tags) == ("review", 1, True, ("default",))
    assert first.blobs.new == first.blobs.total
    assert first.changed == ()
    layout = OciLayout(home.layout)
    verify(layout, first.digest)
    assert layout.names()["review-v1"].digest == first.digest


def test_the_config_says_what_the_code_says(project: Path, home: Home) -> None:
    deployed(project, home)

    (version,) = versions(home)

    assert version.config.entrypoint == TARGET
    assert version.config.input_schema["required"] == ["topic"]
    assert list(version.config.input_schema["properties"]) == ["topic", "count"]
    assert any(name.startswith("kitaru-") for name in version.config.wheels)


def test_an_edit_adds_code_and_config_alone_and_is_named(project: Path, home: Home) -> None:
    deployed(project, home)
    edit(project, "About", "On")

    second = deployed(project, home)

    assert (second.version, second.created, second.tags) == (2, True, ())
    assert second.blobs.new == 2
    assert second.changed == ("code: flows/review.py",)


def test_the_same_tree_is_the_same_version_however_often(project: Path, home: Home) -> None:
    first = deployed(project, home)
    (project / "kitaru.toml").write_text(f'[flows.review]\nentrypoint = "{TARGET}"\n[runner]\nmax_executions = 2\n')

    again = deployed(project, home, None)

    assert (again.version, again.digest, again.created) == (1, first.digest, False)
    assert (again.blobs.new, again.changed) == (0, ())
    (version,) = versions(home)
    assert [event.created for event in version.deploys] == [False, True]


def test_git_facts_belong_to_the_deploy_not_to_the_digest(project: Path, home: Home) -> None:
    without = deployed(project, home)
    for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "one"]):
        subprocess.run([*GIT, *arguments], cwd=project, check=True)

    committed = deployed(project, home)

    assert without.git is None
    assert committed.git is not None
    assert (committed.git.branch, committed.git.dirty) == ("main", False)
    assert committed.digest == without.digest


def test_a_deploy_can_move_a_tag(project: Path, home: Home) -> None:
    assert deployed(project, home, tag="stable").tags == ("default", "stable")


def test_a_frozen_tag_is_refused_before_anything_is_built(project: Path, home: Home) -> None:
    deployed(project, home, tag="stable")
    database = open_database(home)
    where = {"project": "default", "flow": "review", "tag": "stable"}
    tags.rollback(database, **where, author=Author(ME), to=1)
    edit(project, "About", "On")
    before = sorted(home.layout.rglob("*"))

    with pytest.raises(KitaruStateError, match="stable of review is frozen"):
        deployed(project, home, tag="stable")

    assert sorted(home.layout.rglob("*")) == before
    assert len(versions(home)) == 1
    database.close()


def nothing_deployed(home: Home) -> bool:
    return not home.database.exists() or versions(home) == []


def test_a_syntax_error_is_the_users_own(project: Path, home: Home) -> None:
    edit(project, "def review(", "def review((")

    with pytest.raises(KitaruDeployError, match=r"flows/review\.py is not valid Python") as error:
        deployed(project, home)

    assert "SyntaxError" in (error.value.detail or "")
    assert nothing_deployed(home)


def test_an_exception_at_import_is_the_users_own(project: Path, home: Home) -> None:
    edit(project, "from kitaru", "import nosuchmodule\nfrom kitaru")

    with pytest.raises(KitaruDeployError, match="nosuchmodule") as error:
        deployed(project, home)

    assert 'File "flows/review.py", line 1' in (error.value.detail or "")
    assert nothing_deployed(home)


def test_an_environment_variable_is_seen_at_import_if_declared(
    project: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGION", "north")
    edit(project, "from kitaru", "import os\nREGION = os.environ['REGION']\nfrom kitaru")

    with pytest.raises(KitaruDeployError, match="REGION") as error:
        deployed(project, home)
    assert "[flows." in (error.value.hint or "")
    assert "] env = [" in (error.value.hint or "")

    (project / "kitaru.toml").write_text('[deploy]\nenv = ["REGION"]\n')
    assert deployed(project, home).version == 1


def test_a_file_that_git_ignores_is_not_deployed(project: Path, home: Home) -> None:
    subprocess.run([*GIT, "init", "--quiet"], cwd=project, check=True)
    (project / "other.py").write_text("")
    (project / ".gitignore").write_text("flows/\n")

    with pytest.raises(KitaruUsageError, match=r"flows/review\.py is not among the files of the snapshot"):
        deployed(project, home)

    assert nothing_deployed(home)


def test_a_flow_that_kitaru_toml_calls_otherwise_is_refused(project: Path, home: Home) -> None:
    (project / "kitaru.toml").write_text(f'[flows.notes]\nentrypoint = "{TARGET}"\n')

    with pytest.raises(KitaruDeployError, match=r"calls it notes, and flows/review\.py calls it review"):
        deployed(project, home, "notes")

    assert nothing_deployed(home)


def test_another_folder_with_the_same_flow_name_must_adopt_it(project: Path, home: Home, tmp_path: Path) -> None:
    deployed(project, home)
    other = project.rename(tmp_path / "other")
    edit(other, "About", "On")

    with pytest.raises(KitaruConflictError, match="the flow name review of project default belongs to"):
        deployed(other, home)

    assert KitaruClient(home, cwd=other).deployments.create(TARGET, adopt=True).version == 2


def test_a_project_is_kitaru_tomls_or_what_is_asked_for(project: Path, home: Home) -> None:
    with (project / "kitaru.toml").open("a") as file:
        file.write("\n")
    assert deployed(project, home).project == "default"

    other = KitaruClient(home, cwd=project, project="team").deployments.create(TARGET)

    assert (other.project, other.version) == ("team", 1)
    assert "team/review-v1" in OciLayout(home.layout).names()


def test_a_lost_lock_of_the_version_before_stops_no_deploy(project: Path, home: Home) -> None:
    deployed(project, home)
    (version,) = versions(home)
    (home.layout / "blobs" / "sha256" / hex_of(version.config.lock)).unlink()
    edit(project, "About", "On")

    assert deployed(project, home).version == 2


DEPLOY = """
import json, sys
from pathlib import Path
from kitaru import KitaruClient
print("ready", flush=True)
sys.stdin.readline()
done = KitaruClient(Path({home!r}), cwd=Path({folder!r})).deployments.create({target!r}, tag="canary")
print(json.dumps([done.version, done.digest]))
"""


def test_two_clones_that_deploy_at_once_get_v1_and_v2(project: Path, home: Home, tmp_path: Path) -> None:
    for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "one"]):
        subprocess.run([*GIT, *arguments], cwd=project, check=True)
    subprocess.run([*GIT, "clone", "--quiet", project, tmp_path / "clone"], check=True)
    edit(tmp_path / "clone", "About", "On")
    started = [
        subprocess.Popen(
            [sys.executable, "-c", DEPLOY.format(target=TARGET, home=str(home.root), folder=str(folder))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ},
        )
        for folder in (project, tmp_path / "clone")
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    outputs = []
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        with process:
            output, _ = process.communicate(timeout=120)
        outputs.append(json.loads(output))

    assert sorted(number for number, _ in outputs) == [1, 2]
    layout = OciLayout(home.layout)
    assert {f"review-v{number}": digest for number, digest in outputs} == {
        name: descriptor.digest for name, descriptor in layout.names().items()
    }
    for _, digest in outputs:
        verify(layout, digest)
    database = open_database(home)
    shown = show_version(database, parse_ref("review@canary"), project="default")
    assert shown.version == 2
    assert [flow.versions for flow in list_flows(database, project="default")] == [2]
    database.close()
