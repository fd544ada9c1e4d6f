"""What exceptions of httpx, requests, aiohttp and urllib carry: messages, without the credentials in them.

A handler reads a response's status, headers and body, and says again what was asked for. So these are kept; not the
body of a request, nor the values of what names a key, a token or a cookie: an exception is read by people.
"""

from __future__ import annotations

import base64
import importlib
import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit
from urllib.parse import parse_qsl as pairs_of

from kitaru_runner.values.named_types import find_type, type_name

Json = dict[str, Any]

HIDDEN = "**********"
SECRET = re.compile(r"auth|cookie|key|token|secret|password|credential|session|signature", re.I)
"""In the name of a request's header, or of a parameter in its address."""
SECRET_OF_RESPONSE = re.compile(r"auth|cookie|secret|password|api-key", re.I)
"""Not `token`: what is left of a rate limit is counted in those."""
LARGEST_BODY_BYTES = 1 << 17


def said(value: Any) -> Json | None:
    """The message as JSON; None: it is none of these."""
    way = WAYS.get(family_of(type(value)))
    return None if way is None else {"of": type_name(type(value)), **way[0](value)}


def made(message: Json) -> Any:
    """The message that `said` says. A body that is not there is one that was not read."""
    kind: Any = find_type(message["of"])
    return WAYS[family_of(kind)][1](kind, message)


def family_of(kind: type) -> tuple[str, str]:
    return kind.__module__.partition(".")[0], kind.__name__


def pairs(headers: Any, secret: re.Pattern[str]) -> list[list[str]]:
    items: Iterable[tuple[str, str]] = headers.multi_items() if hasattr(headers, "multi_items") else headers.items()
    return [[str(name), HIDDEN if secret.search(str(name)) else text_of(value)] for name, value in items]


def text_of(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def address(url: Any) -> str | None:
    if url is None:
        return None
    parts: SplitResult = urlsplit(str(url))
    place = parts.netloc.rpartition("@")[2]
    query = parts.query
    if SECRET.search(query):
        query = urlencode([(name, HIDDEN if SECRET.search(name) else value) for name, value in pairs_of(query, True)])
    return parts._replace(netloc=place, query=query).geturl()


def body_of(content: object) -> Json:
    if not isinstance(content, bytes) or len(content) > LARGEST_BODY_BYTES:
        return {}
    try:
        return {"text": content.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(content).decode()}


def content_of(message: Json) -> bytes | None:
    if "base64" in message:
        return base64.b64decode(message["base64"])
    return message["text"].encode() if "text" in message else None


def inner(value: Any) -> Json | None:
    return None if value is None else said(value)


def outer(message: Json | None) -> Any:
    return None if message is None else made(message)


# httpx, and what is made as it is


def say_request(request: Any) -> Json:
    return {"method": request.method, "url": address(request.url), "headers": pairs(request.headers, SECRET)}


def make_httpx_request(kind: Any, message: Json) -> Any:
    return kind(message["method"], message["url"], headers=[tuple(pair) for pair in message["headers"]])


def say_httpx_response(response: Any) -> Json:
    elapsed = getattr(response, "_elapsed", None)
    return {
        "status": response.status_code,
        "headers": pairs(response.headers, SECRET_OF_RESPONSE),
        "request": inner(getattr(response, "_request", None)),
        "seconds": elapsed.total_seconds() if elapsed is not None else None,
        **body_of(getattr(response, "_content", None)),
    }


def make_httpx_response(kind: Any, message: Json) -> Any:
    package: Any = importlib.import_module(kind.__module__.partition(".")[0])
    state: Json = {
        "status_code": message["status"],
        "headers": package.Headers([tuple(pair) for pair in message["headers"]]),
        "_request": outer(message["request"]),
        "next_request": None,
        "history": [],
        "is_stream_consumed": True,
        "default_encoding": "utf-8",
        "_num_bytes_downloaded": 0,
    }
    content = content_of(message)
    if content is not None:
        state["_content"] = content
    if message["seconds"] is not None:
        state["_elapsed"] = timedelta(seconds=message["seconds"])
    response = kind.__new__(kind)
    response.__setstate__(state)
    return response


# requests


def make_prepared_request(kind: Any, message: Json) -> Any:
    request = kind()
    request.method, request.url, request.headers = message["method"], message["url"], headers_of_requests(message)
    return request


def say_requests_response(response: Any) -> Json:
    return {
        "status": response.status_code,
        "reason": text_of(response.reason) if response.reason is not None else None,
        "url": address(response.url),
        "headers": pairs(response.headers, SECRET_OF_RESPONSE),
        "encoding": response.encoding,
        "seconds": response.elapsed.total_seconds(),
        "request": inner(response.request),
        # False: it was not read. None: there is none, as in a response that a test makes.
        **({"text": ""} if response._content is None else body_of(response._content)),
    }


def make_requests_response(kind: Any, message: Json) -> Any:
    response, content = kind(), content_of(message)
    response.status_code, response.reason, response.url = message["status"], message["reason"], message["url"]
    response.headers, response.encoding = headers_of_requests(message), message["encoding"]
    response.elapsed = timedelta(seconds=message["seconds"])
    response.request = outer(message["request"])
    response._content, response._content_consumed = False if content is None else content, True
    return response


def headers_of_requests(message: Json) -> Any:
    return importlib.import_module("requests.structures").CaseInsensitiveDict(message["headers"])


# aiohttp, and headers by themselves


def say_request_info(info: Any) -> Json:
    return {"method": info.method, "url": address(info.url), "headers": pairs(info.headers, SECRET)}


def make_request_info(kind: Any, message: Json) -> Any:
    url = importlib.import_module("yarl").URL(message["url"])
    return kind(url, message["method"], make_multidict(None, message), url)


def say_headers(headers: Any) -> Json:
    return {"headers": pairs(headers, SECRET_OF_RESPONSE)}


def make_multidict(kind: Any, message: Json) -> Any:
    package = importlib.import_module("multidict")
    return package.CIMultiDictProxy(package.CIMultiDict([tuple(pair) for pair in message["headers"]]))


def make_email_headers(kind: Any, message: Json) -> Any:
    headers = kind()
    for name, value in message["headers"]:
        headers.add_header(name, value)
    return headers


Way = tuple[Callable[[Any], Json], Callable[[Any, Json], Any]]
WAYS: dict[tuple[str, str], Way] = {
    **{(package, "Request"): (say_request, make_httpx_request) for package in ("httpx", "httpx2")},
    **{(package, "Response"): (say_httpx_response, make_httpx_response) for package in ("httpx", "httpx2")},
    ("requests", "PreparedRequest"): (say_request, make_prepared_request),
    ("requests", "Response"): (say_requests_response, make_requests_response),
    ("aiohttp", "RequestInfo"): (say_request_info, make_request_info),
    ("multidict", "CIMultiDictProxy"): (say_headers, make_multidict),
    ("email", "Message"): (say_headers, make_email_headers),
    ("http", "HTTPMessage"): (say_headers, make_email_headers),
}
