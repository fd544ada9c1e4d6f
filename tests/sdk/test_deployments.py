"""`KitaruClient().deployments` and `.tags`, as a program uses them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from registries import Registry

from kitaru.client import KitaruClient
from kitaru_registry.database.opening import open_database
from kitaru_registry.errors import KitaruNotFoundError, KitaruUsageError
from kitaru_registry.home import Home


@pytest.fixture
def registry(cold_home: Home) -> Iterator[Registry]:
    database = open_database(cold_home)
    yield Registry(database)
    database.close()


@pytest.fixture
def client(cold_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KitaruClient:
    monkeypatch.setenv("KITARU_ACTOR", "me@test")
    (tmp_path / "work").mkdir()
    return KitaruClient(cold_home, cwd=tmp_path / "work")


def test_a_version_is_got_by_every_form_of_reference(registry: Registry, client: KitaruClient) -> None:
    registry.deploy("one")
    registry.deploy("two", tag="stable")

    def got(flow: str, **selector: str | int) -> int:
        return client.deployments.get(flow=flow, **selector).version  # type: ignore[arg-type]

    assert got("review") == 1
    assert got("review@stable") == got("review", tag="stable") == got("review", version=2) == 2
    assert got("default/review", version="v2") == 2
    assert [version.version for version in client.deployments.list(flow="review")] == [2, 1]
    assert [summary.flow for summary in client.deployments.flows()] == ["review"]


def test_a_version_is_deleted_by_name(registry: Registry, client: KitaruClient) -> None:
    registry.deploy("one")
    registry.deploy("two")
    registry.deploy("three")

    client.deployments.delete(flow="review", version="v2")
    client.deployments.delete(flow="review@v3")

    assert [version.version for version in client.deployments.list()] == [1]
    with pytest.raises(KitaruUsageError, match="which version of review"):
        client.deployments.delete(flow="review@stable")


def test_a_list_takes_a_flow_and_no_version(client: KitaruClient) -> None:
    with pytest.raises(KitaruUsageError, match="review@v1 names a version; a flow is asked for"):
        client.deployments.list(flow="review@v1")


def test_a_tag_takes_its_flow_from_where_it_can(registry: Registry, client: KitaruClient) -> None:
    registry.deploy("one")
    assert client.tags.move("stable", "v1").flow == "review"

    registry.deploy("one", flow="other")
    with pytest.raises(KitaruUsageError, match="which flow\\? project default has other, review"):
        client.tags.move("stable", 1)
    assert client.tags.move("other@stable", 1).flow == "other"
    assert client.tags.move("canary", 1, flow="other").flow == "other"

    (client.cwd / "kitaru.toml").write_text("[flows.review]\n")
    assert KitaruClient(client.home, cwd=client.cwd).tags.move("canary", 1).flow == "review"


def test_without_any_flow_a_tag_says_how_to_deploy(client: KitaruClient) -> None:
    with pytest.raises(KitaruNotFoundError) as error:
        client.tags.move("stable", 1)

    assert error.value.hint == "kitaru deploy path.py:flow"


def test_a_tag_goes_there_and_back(registry: Registry, client: KitaruClient) -> None:
    for content in ("one", "two", "three"):
        registry.deploy(content)
    client.tags.move("stable", "v2")
    client.tags.move("stable", 3, reason="faster")

    back = client.tags.rollback("stable", reason="it loops")

    assert (back.to, back.frozen, back.actor, back.reason) == ({"v2": 100}, True, "me@test", "it loops")
    assert client.tags.rollback("stable", to="v1").to == {"v1": 100}
    assert client.tags.move("stable", 3, release=True).frozen is False
    assert [move.kind for move in client.tags.history("stable")] == ["move", "rollback", "rollback", "move", "move"]
    assert [state.tag for state in client.tags.list()] == ["stable", "default"]
    assert client.tags.delete("stable").to is None


@pytest.mark.parametrize("version", ["latest", "v0", "2.0"])
def test_what_is_no_version_is_refused(registry: Registry, client: KitaruClient, version: str) -> None:
    registry.deploy("one")

    with pytest.raises(KitaruUsageError, match="is no version"):
        client.tags.move("stable", version)
