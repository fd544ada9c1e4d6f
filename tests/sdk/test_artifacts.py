"""What executions produced can be listed, searched, traced, read and deleted by any program."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.sdk.conftest import Project

from kitaru import KitaruError, KitaruNotFoundError, KitaruStateError, KitaruUsageError
from kitaru.downloading import download
from kitaru_registry.errors import KitaruConflictError
from kitaru_registry.home import Home

FLOWS = """
class Strange:
    def __reduce__(self):
        return (Strange, ())

@checkpoint
def research(topic):
    save("notes", {"topic": topic}, type="context", tags=["raw", "checked"])
    return f"a long text about {topic}"

@checkpoint
def draft(text):
    return {1: text}

@checkpoint(record="digest")
def secret():
    return "unkept"

@flow
def review(topic):
    text = research(topic)
    secret()
    save("final", draft(text), tags=["checked"])
    return Strange() if topic == "strange" else text
"""


@pytest.fixture
def review(project: Project) -> Any:
    return project.load(FLOWS).review


def run(review: Any, topic: str = "tea") -> str:
    handle = review.run(topic)
    handle.until_settled(60)
    return str(handle.exec_id)


def test_an_execution_s_artifacts_come_in_recorded_order(project: Project, review: Any) -> None:
    exec_id = run(review)

    found = project.client.artifacts.list(exec_id)

    assert [a.artifact_id.removeprefix(exec_id) for a in found] == [
        "/research", "/research:notes", "/secret", "/draft", "/save:final", ""
    ]  # fmt: skip
    assert [(a.name, a.kind, a.type, a.codec) for a in found] == [
        ("research", "step_output", "output", "str"), ("notes", "manual", "context", "json"),
        ("secret", "step_output", "output", "digest"), ("draft", "step_output", "output", "tagged"),
        ("final", "manual", "output", "tagged"), ("result", "result", "output", "str"),
    ]  # fmt: skip
    assert [a.producing_call for a in found] == ["research", "research", "secret", "draft", None, None]
    assert found[0].digest == found[-1].digest
    assert (found[0].size, found[2].size, found[2].is_kept) == (len("a long text about tea"), None, False)
    assert (found[1].tags, found[1].save_type, found[0].save_type) == (("raw", "checked"), "manual", "step_output")
    assert [a.load() for a in found[:2]] == ["a long text about tea", {"topic": "tea"}]


def test_they_can_be_narrowed(project: Project, review: Any) -> None:
    exec_id = run(review)
    list_ = project.client.artifacts.list

    assert [a.name for a in list_(exec_id, kind="manual")] == ["notes", "final"]
    assert [a.name for a in list_(exec_id, producing_call="research")] == ["research", "notes"]
    assert [a.name for a in list_(exec_id, tag="checked", type="output")] == ["final"]
    assert [a.name for a in list_(exec_id, limit=2)] == ["research", "notes"]
    assert list_(exec_id, name="nothing") == []


def test_a_search_goes_across_executions_newest_first(project: Project, review: Any) -> None:
    first, second = run(review), run(review, "milk")
    search = project.client.artifacts.search

    assert [a.exec_id for a in search(name="notes")] == [second, first]
    assert [a.load()["topic"] for a in search(type="context", flow="review")] == ["milk", "tea"]
    assert [a.name for a in search(tag="checked", limit=1)] == ["final"]
    assert search(flow="other") == search(tag="chec") == search(name="note%") == []
    assert len(search(since=datetime.now(UTC) - timedelta(hours=1))) == 12
    assert search(since=datetime.now(UTC) + timedelta(hours=1)) == []


def test_an_id_may_begin_with_an_end_of_the_execution_s(project: Project, review: Any) -> None:
    exec_id = run(review)
    get = project.client.artifacts.get

    for place in ("/research", "/research:notes", "/save:final", ""):
        assert get(exec_id[-8:] + place).artifact_id == exec_id + place
    for place in ("/nothing", "/research:other", "/research:notes#2", "/research/", "/"):
        if place == "/":
            assert get(exec_id + place).kind == "result"
            continue
        with pytest.raises(KitaruNotFoundError, match="has no artifact"):
            get(exec_id + place)


def test_load_outside_of_a_flow_reads_what_a_flow_would(project: Project, review: Any) -> None:
    from kitaru import load

    exec_id = run(review)

    assert load(exec_id, "final") == {1: "a long text about tea"}
    assert load(exec_id, "research:notes") == {"topic": "tea"}
    with pytest.raises(KitaruStateError, match="was not kept"):
        load(exec_id, "secret")


def test_another_user_s_pickle_is_read_on_trust_alone(
    project: Project, review: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    exec_id = run(review, "strange")
    handle = project.client.executions.handle(exec_id)
    (result,) = project.client.artifacts.list(exec_id, kind="result")
    monkeypatch.setattr(Home, "is_own", property(lambda self: False))

    for read in (result.load, handle.get, lambda: project.client.load(exec_id, "final") and result.load()):
        with pytest.raises(KitaruUsageError, match="is pickled, and another user's home holds it"):
            read()
    assert type(result.load(trust_pickle=True)).__name__ == "Strange"
    assert type(project.client.result(project.client.executions.get(exec_id), trust_pickle=True)).__name__ == "Strange"
    assert result.shown().startswith("<pickle-3.")


def test_a_download_is_a_file_that_other_programs_read(project: Project, review: Any, tmp_path: Path) -> None:
    exec_id = run(review, "strange")
    get = project.client.artifacts.get

    text = download(get(f"{exec_id}/research"), tmp_path)
    table = download(get(f"{exec_id}/save:final"), tmp_path / "out.json")
    pickled = download(get(exec_id), tmp_path)

    assert (text.path.name, text.path.read_text()) == ("research.txt", "a long text about strange")
    assert json.loads(table.path.read_text()) == {"1": "a long text about strange"}
    assert pickled.path.name == "result.pkl"
    assert "runs code" in str(pickled.note)
    with pytest.raises(KitaruConflictError, match="is there already"):
        download(get(f"{exec_id}/research"), tmp_path)
    assert download(get(f"{exec_id}/draft"), text.path, force=True).path.read_text() != "a long text about strange"
    with pytest.raises(KitaruError, match="cannot write"):
        download(get(f"{exec_id}/draft"), tmp_path / "no" / "such" / "folder")
    assert sorted(path.name for path in tmp_path.glob("*.*")) == ["out.json", "research.txt", "result.pkl"]


def test_what_was_deleted_says_so_everywhere(project: Project, review: Any) -> None:
    from kitaru import load

    exec_id = run(review)
    client = project.client
    (artifact,) = client.artifacts.list(exec_id, name="final")

    deleted = client.executions.delete(exec_id[-8:])

    assert deleted.exec_ids == (exec_id,)
    for read in (
        artifact.load, lambda: load(exec_id, "final"), lambda: client.artifacts.list(exec_id),
        lambda: client.artifacts.lineage(f"{exec_id}/draft"), client.executions.handle(exec_id).get,
        lambda: client.executions.logs(exec_id), lambda: client.executions.follow(exec_id),
    ):  # fmt: skip
        with pytest.raises(KitaruNotFoundError, match="are gone: deleted by ada@analytical at"):
            read()
    assert client.artifacts.search() == []
    assert client.executions.get(exec_id).deleted_at is not None
    assert client.executions.deletable() == []


def test_a_project_s_retention_reaches_the_home_s_runner(project: Project, review: Any) -> None:
    exec_id = run(review)
    (project.root / "kitaru.toml").write_text('[retention]\nexecutions = "1m"\n')
    from kitaru_registry.database.tables import executions as table

    client = project.client
    assert client.gc().expired == 0
    with client.database.write() as connection:
        connection.execute(table.update().values(ended_us=1))

    assert client.gc().expired == 1
    assert client.executions.get(exec_id).status_reason == "deleted by retention"


def test_forbidden_pickles_are_refused_by_name(project: Project, review: Any) -> None:
    (project.root / "kitaru.toml").write_text('[values]\npickle = "forbid"\n')

    strange = review.run("strange")
    with pytest.raises(KitaruError, match="only pickle carries a value of type flows:Strange"):
        strange.wait()
    with pytest.raises(KitaruUsageError, match="only pickle carries the inputs of review"):
        review.run(lambda: 1)
    assert review.run("tea").wait() == "a long text about tea"


PARENTS = """
@checkpoint
def draft(text):
    return f"a draft of {text}"

@flow
def child(topic):
    return draft(f"a long text about {topic}")

@flow
def parent():
    handle = child.run("tea")
    text = handle.wait()
    return [draft(text), draft(handle.get())]

@flow
async def parent_later():
    handle = child.run("tea")
    text = await handle
    return [await again(text), await again(handle.get())]

@checkpoint
async def again(text):
    return f"again {text}"
"""


@pytest.mark.parametrize("name", ["parent", "parent_later"])
def test_what_a_child_gave_is_followed_into_its_own_execution(project: Project, name: str) -> None:
    handle = getattr(project.load(PARENTS), name).run()
    handle.wait()
    client = project.client
    (child,) = client.artifacts.search(flow="child", kind="result")
    own = [a for a in client.artifacts.list(handle.exec_id) if a.kind == "step_output"]

    for artifact in own:
        (link,) = client.artifacts.lineage(artifact.artifact_id).links
        assert (link.ref, link.links[0].ref) == (child.artifact_id, f"{child.exec_id}/draft")
    below = client.artifacts.lineage(f"{child.exec_id}/draft", direction="down").links
    assert {link.ref for link in below[0].links} == {artifact.artifact_id for artifact in own}
    assert {a.kind for a in client.artifacts.list(handle.exec_id)} == {"step_output", "result"}


def test_what_the_flow_saved_under_any_name_has_an_id_of_its_own(project: Project) -> None:
    exec_id = run(project.load(NAMED).named)
    client = project.client

    found = client.artifacts.list(exec_id, kind="manual")

    assert [(a.name, a.artifact_id.partition("/")[2]) for a in found] == [
        ("pages/1", "save:pages/1"), ("pages/1", "save:pages/1#2"), ("a:b#2", "save:a:b#2"),
    ]  # fmt: skip
    assert [client.artifacts.get(a.artifact_id).load() for a in found] == [1, 2, 3]
    assert client.load(exec_id, "pages/1", index=1) == 2


NAMED = """
@flow
def named(topic):
    save("pages/1", 1)
    save("pages/1", 2)
    save("a:b#2", 3)
"""


def test_what_can_find_nothing_is_refused(project: Project, review: Any) -> None:
    exec_id = run(review)
    client = project.client

    for ask in (
        lambda: client.artifacts.list(exec_id, limit=0), lambda: client.artifacts.search(limit=-1),
        lambda: client.executions.list(limit=-1), lambda: client.load(exec_id, "notes", index="1"),  # type: ignore[arg-type]
        lambda: client.executions.get(None),  # type: ignore[arg-type]
        lambda: client.executions.replay(exec_id, overrides={5: 1}),  # type: ignore[dict-item]
        lambda: client.executions.bulk("frobnicate"),  # type: ignore[arg-type]
        lambda: client.executions.bulk("cancel", flow="review", options={"why": "no"}),
    ):  # fmt: skip
        with pytest.raises(KitaruUsageError):
            ask()


TABLES = """
import pandas

@flow
def tables(topic):
    save("prices", pandas.DataFrame({"item": ["fig", "kiwi"], "cents": [20, 35]}))
    save("index", pandas.Index([1, 2]))
"""


def test_a_table_is_downloaded_as_csv(project: Project, tmp_path: Path) -> None:
    exec_id = run(project.load(TABLES).tables)
    get = project.client.artifacts.get

    prices = download(get(f"{exec_id}/save:prices"), tmp_path)

    assert (prices.path.name, prices.path.read_text()) == ("prices.csv", ",item,cents\n0,fig,20\n1,kiwi,35\n")
    assert "keeps no types" in str(prices.note)
    assert download(get(f"{exec_id}/save:index"), tmp_path).path.name == "index.csv"
