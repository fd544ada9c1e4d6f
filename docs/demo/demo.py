"""The product told as one story: `make demo`. It types the commands that you would, and checks all that it claims."""

from __future__ import annotations

import argparse
import subprocess
import time
from pathlib import Path

import stage
from stage import Stage, require, say

AGENT = "templates/kitaru_templates/release_notes/release_notes.py"
SECONDS_OF_DRAFTING = 8.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", type=Path, default=Path.cwd(), help="whose history the agent reads")
    parser.add_argument("--folder", type=Path, default=Path.cwd() / ".demo", help="where everything of this demo goes")
    options = parser.parse_args()
    repository = stage.history_of(options.repository.resolve())
    began = time.monotonic()
    with stage.open_stage(options.folder.absolute(), source=Path(__file__).resolve().parents[2]) as scene:
        tell(scene, repository)
    say(f"\nThat took {time.monotonic() - began:.0f} seconds. All of it is in {options.folder}; make clean removes it.")
    say("Your turn:  .venv-demo/bin/kitaru init my-agent --template release_notes\n")


def tell(scene: Stage, repository: Path) -> None:
    say(f"An agent writes the release notes of {repository.name}: it reads the git history, drafts a section for each")
    say("part of the project, asks a human, and publishes a Markdown file.")
    areas = first_version(scene, repository)
    second_version(scene)
    crash(scene, repository, areas=areas)
    promote_and_roll_back(scene, repository)
    scene.heading("What happened")
    scene.timeline()


def first_version(scene: Stage, repository: Path) -> int:
    """Deploy, invoke, approve; how many areas the project has."""
    scene.heading("1. Deploy it")
    say("Code, lock and every wheel become one immutable artifact, named by its digest. It gets the next number.")
    deployed = scene.kitaru("deploy", "release_notes")
    require(deployed["version"] == 1 and deployed["created"], "the first deploy makes v1")
    require(deployed["tags"] == ["default"], "v1 gets the tag default")
    scene.show(f"v1 is {deployed['digest'][:19]}..., {stage.blobs(deployed)}")
    scene.kitaru("tag", "move", "stable", "v1")

    scene.heading("2. Run it")
    say("Whoever calls it names a tag. It drafts, and then it needs a human. Nothing runs while it waits.")
    output = scene.folder / "v1.md"
    waiting = scene.invoke("release_notes@stable", repository=str(repository), output=str(output))
    require(waiting["version"] == 1 and waiting["status"] == "waiting", "stable runs v1, which waits for an answer")
    question = waiting["pending_waits"][0]["question"]
    scene.excerpt(question, lines=14)
    finished = scene.answer(waiting, approved=True)
    require(finished["result"] == str(output), "an approved execution returns the path of its file")
    require(output.read_text() in question, "what was published is what was approved")
    scene.show(f"published {output.relative_to(scene.folder.parent)}")
    return max(1, len(drafts(finished)))


def second_version(scene: Stage) -> None:
    scene.heading("3. Change it")
    say("Now the notes shall thank those who wrote the commits. One line changes, and nobody notices yet:")
    say("a deploy is not a rollout.")
    path = scene.checkout / AGENT
    path.write_text(path.read_text().replace("CREDIT_AUTHORS = False", "CREDIT_AUTHORS = True"))
    scene.show("CREDIT_AUTHORS = False   ->   CREDIT_AUTHORS = True")
    deployed = scene.kitaru("deploy", "release_notes")
    require(deployed["version"] == 2 and deployed["created"] and not deployed["tags"], "v2 is there, and has no tag")
    require(deployed["blobs"]["new"] < deployed["blobs"]["total"], "v2 shares the wheels of v1")
    scene.show(f"v2 is {deployed['digest'][:19]}..., {stage.blobs(deployed)}")
    again = scene.kitaru("deploy", "release_notes")
    require(again["version"] == 2 and not again["created"], "the same content is the same version")
    scene.show("the same again is still v2: nothing that runs has changed")
    scene.kitaru("tag", "move", "canary", "v2")


def crash(scene: Stage, repository: Path, *, areas: int) -> None:
    scene.heading("4. Kill it")
    say("The canary runs, slowly, as a model would. In the middle of its drafts we send SIGKILL to the runner and to")
    say("the process that runs the agent. Neither can say goodbye.")
    output = scene.folder / "v2.md"
    inputs = {"repository": str(repository), "output": str(output), "seconds_per_draft": SECONDS_OF_DRAFTING / areas}
    started = scene.invoke("release_notes@canary", "--detach", **inputs)
    # The history and the first draft; with a single draft there is no middle but that one itself.
    middle = min(2, areas)
    before = scene.wait_until(started, lambda execution: sum(map(is_recorded, execution["checkpoints"])) >= middle)
    scene.kill_runner_and_child()
    kept = {call["key"]: call for call in before["checkpoints"] if is_recorded(call)}
    say(
        "Its journal is on disk. Resumed, it goes through the code from the top, and takes what is recorded from there."
    )
    scene.kitaru("executions", "resume", before["exec_id"])
    after = scene.wait_until(before, lambda execution: execution["status"] == "waiting")
    require(after["digest"] == before["digest"], "it goes on with the bytes that it began with")
    require(after["attempt"] == before["attempt"] + 1, "it is the next attempt of the same execution")
    for call in after["checkpoints"]:
        if call["key"] in kept:
            require(call["ended_at"] == kept[call["key"]]["ended_at"], f"{call['key']} was not recorded again")
    scene.survivors(after, kept, begun=scene.times_drafted(after))
    finished = scene.answer(after, approved=True)
    require(finished["status"] == "completed", "the killed execution completed")
    require("Thanks to" in output.read_text(), "v2 thanks the authors")


def promote_and_roll_back(scene: Stage, repository: Path) -> None:
    scene.heading("5. Promote it, and take it back")
    moved = scene.kitaru("tag", "move", "stable", "v2", "--reason", "the canary did well")
    require(moved["from"] == {"v1": 100} and moved["to"] == {"v2": 100}, "stable moved from v1 to v2")
    say("Everyone who calls stable gets v2 now. Then somebody does not want to be named:")
    waiting = scene.invoke("release_notes@stable", repository=str(repository), output=str(scene.folder / "v3.md"))
    require(waiting["version"] == 2, "stable runs v2")
    finished = scene.answer(waiting, approved=False)
    require(finished["result"] == "Rejected", "no means no")
    rolled_back = scene.kitaru("tag", "rollback", "stable", "--reason", "not everyone wants to be named")
    require(rolled_back["to"] == {"v1": 100}, "a rollback goes to the version before")
    say("One command, and the tag is frozen until somebody releases it by name. Callers get the bytes of v1 again:")
    waiting = scene.invoke("release_notes@stable", repository=str(repository), output=str(scene.folder / "v4.md"))
    require(waiting["version"] == 1, "after the rollback stable runs v1")
    scene.answer(waiting, approved=True)
    require("Thanks to" not in (scene.folder / "v4.md").read_text(), "v1 thanks nobody")
    scene.history("stable")


def drafts(execution: stage.Item) -> list[stage.Item]:
    return [call for call in execution["checkpoints"] if call["name"] == "draft_area"]


def is_recorded(call: stage.Item) -> bool:
    return bool(call["status"] == "completed")


if __name__ == "__main__":
    try:
        main()
    except (stage.BrokenPromiseError, subprocess.TimeoutExpired) as error:
        raise SystemExit(f"\nThe demo stops here: {error}") from None
