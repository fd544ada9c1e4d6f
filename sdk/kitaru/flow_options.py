"""What `@flow(...)`, `.run(...)` and `.deploy(...)` may say of an execution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from typing import Any

from kitaru_registry.errors import KitaruUsageError
from kitaru_registry.names import told

OPTIONS = ("stack", "image", "cache", "retries", "finish_timeout")
PER_CALL = ("stack", "image", "cache", "retries")
"""What `.run` and `.deploy` take too; a parameter of the flow that has such a name is given by position."""

STACKS = (None, "local")

LONGEST_SECONDS = 100 * 366 * 86_400


@dataclass(frozen=True)
class FlowOptions:
    retries: int = 0
    cache: bool | None = None
    """None: as each checkpoint says."""
    finish_timeout: float | None = None
    """Seconds from an execution's first start."""

    @property
    def said(self) -> dict[str, Any]:
        """Those that are not the defaults."""
        return {name: value for name, value in vars(self).items() if value != getattr(FlowOptions, name)}


def flow_options(given: Mapping[str, Any]) -> FlowOptions:
    """Of `@flow(...)`.

    Raises:
        KitaruUsageError: an option that there is not, or a value that it cannot have.
    """
    for name in given:
        if name not in OPTIONS:
            raise no_option("@flow", name, OPTIONS)
    return changed(FlowOptions(), given)


def take_options(options: FlowOptions, kwargs: dict[str, Any]) -> FlowOptions:
    """The flow's options, with those that are among the arguments of a call, which are taken out of them.

    Raises:
        KitaruUsageError: a value that an option cannot have.
    """
    return changed(options, {name: kwargs.pop(name) for name in PER_CALL if name in kwargs})


def changed(options: FlowOptions, given: Mapping[str, Any]) -> FlowOptions:
    check_place(given.get("stack"), given.get("image"))
    retries, cache = given.get("retries"), given.get("cache")
    if retries is not None and (not isinstance(retries, int) or isinstance(retries, bool) or retries < 0):
        raise KitaruUsageError(f"retries={told(retries)} is not a number of them", hint="give 0 or more")
    if cache is not None and not isinstance(cache, bool):
        raise KitaruUsageError(f"cache={told(cache)} is neither True nor False", hint="None: as each checkpoint says")
    finish_timeout = seconds_of(given.get("finish_timeout"))
    return FlowOptions(
        retries=options.retries if retries is None else retries,
        cache=options.cache if cache is None else cache,
        finish_timeout=options.finish_timeout if finish_timeout is None else finish_timeout,
    )


def check_place(stack: object, image: object) -> None:
    """Refuse what says where and in what to execute: there is one place, and what runs is the snapshot."""
    if stack not in STACKS:
        raise KitaruUsageError(
            f"stack={told(stack)}: this release executes on this machine only",
            hint='leave it out, or write stack="local"',
        )
    if image is not None:
        raise KitaruUsageError(
            "image= has no meaning: a deployed flow runs in an environment of its own, made of its locked dependencies",
            hint="leave it out, and declare what the flow needs in its requirements: docs/concepts.md, snapshot",
        )


def seconds_of(duration: object) -> float | None:
    if duration is None:
        return None
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < LONGEST_SECONDS:
        raise KitaruUsageError(
            f"finish_timeout={told(duration)} is no time", hint="give seconds, more than 0, or a timedelta"
        )
    return float(seconds)


def no_option(what: str, name: str, there_are: Sequence[str]) -> KitaruUsageError:
    near = get_close_matches(name, there_are, n=1)
    return KitaruUsageError(
        f"{what} has no option {name}=", hint=f"did you mean {near[0]}=?" if near else f"it has {', '.join(there_are)}"
    )


def one_tag(tag: str | None, tags: Mapping[str, bool] | None, *, publish_default: bool) -> str | None:
    """The tag that a deploy is to move, from both ways to say so.

    Raises:
        KitaruUsageError: a tag that several versions share, several tags, or a first version without `default`.
    """
    if not publish_default:
        raise KitaruUsageError(
            "publish_default_on_first_deploy=False: the first version of a flow always gets the tag default",
            hint="invoke other versions by another tag; a later deploy does not move default",
        )
    for name, exclusive in (tags or {}).items():
        if not exclusive:
            raise KitaruUsageError(
                f"tags={{{name!r}: False}}: a tag points at one version, never at several",
                hint=f"write tag={name!r}, which moves it to this version",
            )
    named = list(dict.fromkeys([*([tag] if tag else []), *(tags or {})]))
    if len(named) > 1:
        raise KitaruUsageError(
            f"a deploy moves one tag, and these are {', '.join(named)}",
            hint=f"deploy with tag={named[0]!r}, then move the others: kitaru tag move {named[1]} vN",
        )
    return named[0] if named else None
