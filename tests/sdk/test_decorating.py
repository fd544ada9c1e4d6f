"""What `@flow` and `@checkpoint` refuse: each with what to write, before anything runs."""

from __future__ import annotations

import copy
import functools
import inspect
import pickle
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from kitaru import Backoff, KitaruUsageError, checkpoint, flow, testing


def function() -> int:
    return 1


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("decorator", [checkpoint, flow, checkpoint(), flow()])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (generator, "generator is a generator"),
        (async_generator, "async_generator is a generator"),
        (5, "got 5, which is no function"),
        ("research", "got 'research', which is no function"),
        (classmethod(function), "stands above @classmethod"),
        (checkpoint(function), "stands above @checkpoint"),
        (flow(function), "stands above @flow"),
        (max, "got max, whose parameters Python does not know"),
    ],
)
def test_what_cannot_be_one_call_with_one_outcome_is_refused(
    decorator: Callable[[Any], Any], given: Any, said: str
) -> None:
    with pytest.raises(KitaruUsageError, match=said) as refused:
        decorator(given)
    assert refused.value.hint


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"retries": -1}, "retries=-1 is not a number of them"),
        ({"retries": True}, "retries=True is not a number of them"),
        ({"timeout": 0}, "timeout=0 is no time"),
        ({"timeout": timedelta(seconds=-1)}, "is no time"),
        ({"backoff": "slow"}, "backoff='slow' is no pause"),
        ({"retry_on": int}, "says not what to retry on"),
        ({"retry_on": (ValueError, "OSError")}, "says not what to retry on"),
        ({"type": ""}, "type='' is no label"),
        ({"type": 5}, "type=5 is no label"),
        ({"cache": "yes"}, "cache='yes' is neither True nor False"),
        ({"runtime": "docker"}, "runtime='docker' does not exist"),
        ({"max_concurrency": 0}, "max_concurrency=0 is not a number of them"),
        ({"retires": 1}, "no option retires="),
    ],
)
def test_an_option_of_a_checkpoint_that_cannot_be_meant_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(KitaruUsageError, match=said):
        checkpoint(**options)(function)


def test_a_time_is_seconds_or_a_timedelta() -> None:
    made = checkpoint(timeout=timedelta(minutes=1), backoff=timedelta(seconds=2))(function)

    assert made.spec.timeout_seconds == 60
    assert made.spec.backoff == Backoff(first=2)


class Agent:
    async def __call__(self, topic: str) -> str:
        return f"about {topic}"

    @checkpoint
    async def plan(self, topic: str) -> str:
        return f"plan of {topic}"


@checkpoint
async def fetch(page: int = 1, *, deep: bool = False) -> int:
    return page


def test_a_framework_sees_whether_a_checkpoint_is_to_be_awaited() -> None:
    assert inspect.iscoroutinefunction(fetch)
    assert inspect.iscoroutinefunction(Agent().plan)
    assert inspect.iscoroutinefunction(checkpoint(functools.partial(fetch.function, 2)))
    assert not inspect.iscoroutinefunction(checkpoint(function))
    assert list(inspect.signature(fetch).parameters) == ["page", "deep"]


def test_an_object_with_an_asynchronous_call_is_a_checkpoint_of_its_class_s_name() -> None:
    agent = checkpoint(Agent())

    async def body() -> list[str]:
        return [await agent("tea"), await agent.submit("rice")]

    outcome = testing.run(flow(body))

    assert outcome.result == ["about tea", "about rice"]
    assert sorted(entry.key for entry in outcome.journal) == ["Agent", "submit[0]/Agent"]
    assert checkpoint(functools.partial(function)).spec.name == "function"


class Shop:
    def __init__(self, name: str) -> None:
        self.name = name

    @checkpoint
    def price(self, number: int) -> str:
        return f"{number} at {self.name}"


@checkpoint
def double(number: int) -> int:
    return 2 * number


@flow
def doubled(number: int) -> int:
    return double(number)


@pytest.mark.parametrize("value", [double, doubled, Shop.price])
def test_outside_of_a_flow_it_is_pickled_by_name_as_its_function_would_be(value: Any) -> None:
    assert pickle.loads(pickle.dumps(value)) is value
    assert copy.deepcopy([value])[0] is value


def test_that_of_an_object_is_pickled_with_the_object() -> None:
    assert pickle.loads(pickle.dumps(Shop("ann").price))(3) == "3 at ann"


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_process_pool_takes_a_checkpoint() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        assert list(pool.map(double, [2, 3])) == [4, 6]
        assert pool.submit(Shop("ann").price, 3).result() == "3 at ann"


def test_what_no_name_leads_to_is_refused_as_its_function_would_be() -> None:
    @checkpoint
    def local(number: int) -> int:
        return number + 1

    with pytest.raises((AttributeError, pickle.PicklingError), match="local"):
        pickle.dumps(local)


def test_cloudpickle_carries_it_whole_into_a_process_that_has_no_such_module(tmp_path: Path) -> None:
    (tmp_path / "pickled").write_bytes(cloudpickle.dumps(lambda number: double(number) + 1))
    program = "import pickle; print(pickle.load(open('pickled', 'rb'))(2))"

    done = subprocess.run([sys.executable, "-P", "-c", program], cwd=tmp_path, capture_output=True, text=True)

    assert done.stdout == "5\n", done.stderr
