"""How people name a version, and which one they mean.

review_flow                  what its tag `default` routes to
review_flow@stable           what that tag routes to
review_flow@v3               that version
review_flow@sha256:3f2a...   the version with that digest; a prefix of it will do
team/review_flow@stable      the same, in another project
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kitaru_registry.errors import KitaruUsageError
from kitaru_registry.names import check_name

DEFAULT_TAG = "default"
FORMS = "FLOW, FLOW@TAG, FLOW@v3, FLOW@sha256:..., PROJECT/FLOW@TAG"


@dataclass(frozen=True)
class Selector:
    """At most one of these; none means the tag `default`."""

    tag: str | None = None
    version: int | None = None
    digest: str | None = None
    """`sha256:` and at least seven hex digits."""

    def __str__(self) -> str:
        if self.version is not None:
            return f"version v{self.version}"
        return f"digest {self.digest}" if self.digest else f"tag {self.tag or DEFAULT_TAG}"


@dataclass(frozen=True)
class FlowRef:
    flow: str
    selector: Selector = Selector()
    project: str | None = None


def parse_ref(text: str, *, tag: str | None = None, version: int | str | None = None) -> FlowRef:
    """What `text` names, with a tag or a version that was given beside it.

    Raises:
        KitaruUsageError: an odd name, or two selectors that differ.
    """
    name, at, written = text.partition("@")
    project, slash, flow = name.rpartition("/")
    if at and not written:
        raise KitaruUsageError(f"nothing follows the @ in {text}", hint=f"forms: {FORMS}")
    if slash:
        check_name("project", project)
    check_name("flow", flow)
    given = [parse_selector(written)] if written else []
    if tag is not None:
        given.append(Selector(tag=check_name("tag", tag)))
    if version is not None:
        given.append(Selector(version=parse_version(version)))
    if any(other != given[0] for other in given):
        said = " and ".join(str(selector) for selector in given)
        raise KitaruUsageError(f"both {said} are given for {flow}", hint="give one of them")
    return FlowRef(flow, given[0] if given else Selector(), project or None)


def parse_tag_ref(text: str, flow: str | None) -> tuple[str | None, str]:
    """The flow, if one is named, and the tag of `[FLOW@]TAG`, with `flow` from an option beside it.

    Raises:
        KitaruUsageError: an odd name, or two flows that differ.
    """
    written, at, tag = text.rpartition("@")
    check_name("tag", tag)
    if at:
        check_name("flow", written)
    if flow is not None:
        check_name("flow", flow)
    if at and flow not in (None, written):
        raise KitaruUsageError(f"both the flow {written} and the flow {flow} are given", hint="give one of them")
    return (written if at else flow), tag


def parse_version(version: int | str) -> int:
    """3 of `3`, `"3"` and `"v3"`."""
    found = re.fullmatch(r"v?([1-9][0-9]{0,8})", str(version))
    if found is None:
        raise KitaruUsageError(f"{version} is no version", hint="versions are written v1, v2, v3 or 1, 2, 3")
    return int(found[1])


def parse_selector(text: str) -> Selector:
    if text.startswith("sha256:"):
        if not re.fullmatch(r"sha256:[0-9a-f]{7,64}", text):
            raise KitaruUsageError(f"{text} is no digest", hint="a digest is sha256: and 7 to 64 of the digits 0-9a-f")
        return Selector(digest=text)
    if re.fullmatch(r"v[0-9]+", text):
        return Selector(version=parse_version(text))
    return Selector(tag=check_name("tag", text))
