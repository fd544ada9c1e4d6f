"""An `except` that would have caught what a checkpoint raised catches it in the flow, and reads of it what it read."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import attrs
import pytest
import requests
from attempts import TestExecution
from pydantic import BaseModel, ValidationError, field_validator
from pydantic_core import PydanticCustomError, PydanticKnownError

from kitaru import checkpoint
from kitaru_runner.values import codec
from kitaru_runner.values.exceptions import recorded_failure
from kitaru_runner.values.failures import describe_failure, rebuild


class Reply(BaseModel):
    number: int
    word: str = ""
    other: object = None

    @field_validator("word")
    @classmethod
    def check(cls, word: str) -> str:
        if word == "custom":
            raise PydanticCustomError("odd", "odd: {which}", {"which": 3})
        if word == "known":
            raise PydanticKnownError("greater_than", {"gt": 1})
        if word:
            raise ValueError("no such word", word)
        return word


class ClientError(Exception):
    def __init__(self, response: dict[str, Any], operation: str) -> None:
        super().__init__(f"{operation} failed: {response['Code']}")
        self.response = response


@dataclass(frozen=True)
class Quota(Exception):
    left: int
    by: tuple[str, ...] = ()


@attrs.frozen
class Limit(Exception):
    left: int


class Problems(ExceptionGroup[Exception]):
    def __new__(cls, errors: list[Exception], where: str) -> Problems:
        self = super().__new__(cls, f"problems in {where}", errors)
        self.where = where
        return self

    where: str

    def derive(self, errors: Any) -> Problems:
        return Problems(errors, self.where)


class Detailed(Exception):
    def __new__(cls, code: int, detail: str) -> Detailed:
        return super().__new__(cls, code, detail)

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code


class Guarded(Exception):
    """Its attributes are set once."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.__dict__["code"] = code

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Odd(Exception):
    """Says something of what no record holds."""

    def __init__(self, holder: object) -> None:
        super().__init__("odd")
        self.holder = holder

    def __str__(self) -> str:
        return f"odd: {len(self.holder.names)}"  # type: ignore[attr-defined]  # a Holder


class Holder:
    names = ("a",)


class Mark:
    def __init__(self, line: int, column: int) -> None:
        self.line, self.column = line, column


class Keyed:
    line = 5

    def __init__(self, api_key: str) -> None:
        self.api_key = api_key


class Misplaced(Exception):
    def __init__(self, mark: Any) -> None:
        super().__init__("misplaced", 1)
        self.mark = mark

    def __str__(self) -> str:
        return f"line {self.mark.line}"


def local() -> Exception:
    class Inner(LookupError):
        pass

    return Inner("x", 3)


def validation(**given: Any) -> Callable[[], Any]:
    return lambda: Reply(number="x", **given)  # type: ignore[arg-type]  # that is the error


def raising(error: BaseException) -> Callable[[], Any]:
    def act() -> None:
        raise error

    return act


made_by_type: Any = type("NoSuchKey", (ClientError,), {"__module__": "of.a.factory"})

RAISED: dict[str, tuple[Callable[[], Any], type[BaseException]]] = {
    "pydantic's, of a field": (validation(), ValidationError),
    "pydantic's, of a validator": (validation(word="x"), ValidationError),
    "pydantic's, of a validator's own kind": (validation(word="custom"), ValidationError),
    "pydantic's, of a validator's known kind": (validation(word="known"), ValidationError),
    "pydantic's, of JSON": (lambda: Reply.model_validate_json('{"number": "x"}'), ValidationError),
    "pydantic's custom error": (raising(PydanticCustomError("odd", "odd: {which}", {"which": 3})), PydanticCustomError),
    "pydantic's known error": (raising(PydanticKnownError("greater_than", {"gt": 1})), PydanticKnownError),
    "a class that type() made": (raising(made_by_type({"Code": "NoSuchKey"}, "GetObject")), ClientError),
    "a frozen dataclass": (raising(Quota(3, ("a",))), Quota),
    "a frozen class of attrs": (raising(Limit(3)), Limit),
    "a group with a __new__ of its own": (raising(Problems([ValueError(1)], "a")), Problems),
    "a group of such": (raising(ExceptionGroup("all", [Problems([local()], "a"), Quota(1)])), ExceptionGroup),
    "a __new__ with arguments": (raising(Detailed(1, "d")), Detailed),
    "a __setattr__ that refuses": (raising(Guarded(4)), Guarded),
    "a class within a function": (raising(local()), LookupError),
}


def error_of(act: Callable[[], Any]) -> BaseException:
    try:
        act()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def recorded(error: BaseException) -> Any:
    return rebuild(json.loads(json.dumps(describe_failure(error))))


@pytest.mark.parametrize("kind", RAISED)
def test_what_would_have_caught_it_catches_it_in_each_attempt(execution: TestExecution, kind: str) -> None:
    act, caught = RAISED[kind]
    seen: list[Any] = []

    @checkpoint
    def fail() -> None:
        act()

    @checkpoint
    def step() -> None:
        pass

    def body() -> None:
        try:
            fail()
        except caught as error:
            seen.append((type(error), str(error), repr(error.args), sorted(vars(error).keys())))
        step()

    execution.attempt(body, writes=1)
    execution.attempt(body)

    assert execution.status == "completed"
    assert len(seen) == 2
    assert seen[0] == seen[1]
    assert seen[0][1] == str(error_of(act))


@pytest.mark.parametrize("kind", [kind for kind in RAISED if kind.startswith("pydantic's, ")])
def test_a_validation_error_says_which_fields_were_wrong(kind: str) -> None:
    error = error_of(RAISED[kind][0])
    back = recorded(error)

    assert isinstance(error, ValidationError)
    assert [{**one, "ctx": repr(one.get("ctx"))} for one in back.errors()] == [
        {**one, "ctx": repr(one.get("ctx"))} for one in error.errors()
    ]
    assert (back.title, back.error_count(), back.json()) == (error.title, error.error_count(), error.json())


def test_a_validation_error_of_what_json_has_not_names_its_type() -> None:
    error = error_of(lambda: Reply(number=Holder()))  # type: ignore[arg-type]  # that is the error
    back = recorded(error)

    assert isinstance(back, ValidationError)
    assert back.errors()[0]["loc"] == ("number",)
    assert "Holder, not recorded" in back.errors()[0]["input"]


def test_a_part_of_a_group_has_what_its_class_gives_it() -> None:
    matched, rest = recorded(Problems([ValueError(1), KeyError(2)], "a")).split(ValueError)

    assert (type(matched), matched.where) == (Problems, "a")
    assert [type(inner) for inner in rest.exceptions] == [KeyError]


def test_what_stands_for_a_class_without_a_name_is_its_nearest_base_and_carries_the_record() -> None:
    back = recorded(made_by_type({"Code": "NoSuchKey"}, "GetObject"))

    assert isinstance(back, ClientError)
    assert type(back).__name__ == "NoSuchKey"
    assert (str(back), back.response) == ("GetObject failed: NoSuchKey", {"Code": "NoSuchKey"})
    record = recorded_failure(back)
    assert record is not None
    assert (record["type"], record["class"]) == ("NoSuchKey", "of.a.factory:NoSuchKey")


def test_a_class_that_is_gone_is_its_nearest_base() -> None:
    described = describe_failure(local())

    back = rebuild({**described, "class": "no_such_module:Gone"})

    assert isinstance(back, LookupError)
    assert type(back).__name__ == "Gone"


def test_one_whose_text_fails_keeps_its_class() -> None:
    back = recorded(Speechless(3))

    assert type(back) is Speechless
    assert back.args == (3,)


def test_one_that_speaks_of_what_was_lost_says_what_it_said() -> None:
    back = recorded(Odd(Holder()))

    assert isinstance(back, Odd)
    assert (type(back).__name__, str(back)) == ("Odd", "odd: 1")
    assert str(recorded(back)) == "odd: 1"


def test_a_small_object_that_an_exception_carries_is_kept() -> None:
    back = recorded(Misplaced(Mark(3, 4)))

    assert (str(back), back.mark.line) == ("line 3", 3)


def test_an_object_with_a_key_is_not_kept() -> None:
    record = json.dumps(describe_failure(Misplaced(Keyed("sk-1"))))

    assert "sk-1" not in record


def test_an_attribute_that_was_lost_says_so() -> None:
    error = ValueError("x")
    error.response = Holder()  # type: ignore[attr-defined]
    back = recorded(error)

    with pytest.raises(AttributeError, match=r"response.names: response was not recorded with its exception: no JSON"):
        _ = back.response.names

    again = recorded(back)
    assert again.response == back.response


def test_what_was_handled_when_it_was_raised_comes_back() -> None:
    def act() -> None:
        try:
            raise KeyError("first")
        except KeyError:
            raise ValueError("second")  # noqa: B904  # without a cause

    back = recorded(error_of(act))

    assert repr(back.__context__) == "KeyError('first')"
    assert back.__cause__ is None


def test_an_earlier_release_s_failure_is_rebuilt() -> None:
    described = {
        "type": "Detailed", "class": f"{__name__}:Detailed", "message": "1: d", "traceback": "", "origin": "user_code",
        "args": ["1: d"], "state": {"code": 1},
    }  # fmt: skip

    back = rebuild(described)

    assert isinstance(back, Detailed)
    assert (back.code, str(back)) == (1, "1: d")


def test_exceptions_are_values_too() -> None:
    value = [local(), Quota(3), ValueError("x", {1, 2}), error_of(RAISED["pydantic's, of a field"][0])][1:]
    encoded = codec.encode(value)
    back = codec.decode(encoded)

    assert encoded.codec == "tagged"
    assert [(type(one), str(one)) for one in back] == [(type(one), str(one)) for one in value]
    assert all(recorded_failure(one) is None for one in back)


def test_exceptions_that_hold_each_other_are_looked_at_a_few_times() -> None:
    one, other = ValueError("one"), ValueError("other")
    for error in (one, other):
        for name in "abcdefgh":
            setattr(error, name, other if error is one else one)

    assert str(recorded(one)) == "one"


# Requests and responses


def response() -> requests.Response:
    made = requests.Response()
    made.status_code, made.reason, made.url = 429, "Too Many Requests", "https://me:pass@api.example/v1?key=sk-1&q=tea"
    made.headers.update({"Retry-After": "7", "Set-Cookie": "id=sk-2", "x-ratelimit-remaining-tokens": "3"})
    made._content, made.encoding = '{"error": "späť"}'.encode(), "utf-8"
    headers = {"Authorization": "Bearer sk-3", "x-api-key": "sk-4", "Accept": "text/plain"}
    made.request = requests.Request("GET", made.url, headers=headers, cookies={"a": "sk-5"}).prepare()
    return made


def test_an_http_error_has_its_response_and_request() -> None:
    error = error_of(lambda: response().raise_for_status())
    back = recorded(error)

    assert type(back) is requests.HTTPError
    found = back.response
    assert (found.status_code, found.reason, found.ok) == (429, "Too Many Requests", False)
    assert (found.headers["retry-after"], found.headers["X-RateLimit-Remaining-Tokens"]) == ("7", "3")
    assert found.json() == {"error": "späť"}
    assert (back.request.method, back.request.headers["accept"]) == ("GET", "text/plain")
    with pytest.raises(requests.HTTPError):
        found.raise_for_status()


def test_credentials_of_a_request_are_not_recorded() -> None:
    error = requests.HTTPError("no", response=response())

    record = json.dumps(describe_failure(error))

    assert "sk-" not in record
    assert "pass@" not in record
    assert "q=tea" in record


def test_a_body_that_is_not_read_or_too_large_is_one_that_was_not_read() -> None:
    unread = response()
    unread._content = False  # as requests has it before it is read
    large = response()
    large._content = b"x" * 1_000_000
    for made in (unread, large):
        found = recorded(requests.HTTPError("no", response=made)).response

        assert found.status_code == 429
        with pytest.raises(RuntimeError, match="already consumed"):
            _ = found.content


def test_a_pickle_within_a_record_is_not_read() -> None:
    described = describe_failure(ValueError("x"))
    inner = {"$": "encoded", "type": codec_name(), "v": "gASVAAAAAA=="}

    back = rebuild({**described, "state": {"note": inner}})

    assert isinstance(back, ValueError)
    assert not hasattr(back.note, "read")  # type: ignore[attr-defined]


def codec_name() -> str:
    return codec.encode(lambda: pickle).codec
