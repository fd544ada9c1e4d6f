"""Arguments of a call: a digest that is equal for equal ones, and enough beside it to name what differs.

    16 bytes      of all arguments, by name, over their canonical forms
    ?             one has no canonical form, and counts by its type alone
    = SKETCH      a byte for each part, so that a warning can say which one is another now

The sketch is left out where there is one argument, of one part.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any
from zlib import crc32

from kitaru_runner.values import binary
from kitaru_runner.values import registered as custom
from kitaru_runner.values.tagged import UNFIT, canonical, tag

DIGEST_BYTES = 16
OPAQUE = b"?"
SKETCH = b"="

MOST_PARTS = 24
"""So many bytes a sketch has at most, beside one for each argument."""

MOST_SKETCHED = 1 << 15
"""Characters of canonical form up to which an argument is looked at part by part."""

SHOWN = 3
"""Parts that a warning names."""

WHOLE = frozenset({"set", "frozenset", "timedelta", "complex"})
"""Tags of values that are one part."""

NAMING = frozenset({"$", "v", "of", "type"})

Part = tuple[str, object]
"""Where it is, as one would write it (`messages[2].timestamp`), and its tagged form."""


def digest_inputs(
    arguments: Mapping[str, object], *, sketched: bool = True, refine: Callable[[Any], Any] | None = None
) -> bytes:
    """What equal arguments have in common, and others have not.

    Args:
        sketched: with the sketch of the parts.
        refine: makes what is compared of a tagged form.
    """
    forms, mark, tagged = [], b"", {}
    for name, value in arguments.items():
        try:
            if type(value) is int:
                form = str(value)
            else:
                form, inner = canonical_form(value)
                if refine is not None and inner is not None:
                    form = canonical(refine(inner))
                if type(inner) is dict or type(inner) is list:
                    tagged[name] = inner
        except UNFIT:
            form, mark = f"opaque:{type(value)}", OPAQUE
        forms.append(f"{name}={form}\0")
    said = "".join(forms).encode("utf-8", "surrogatepass")
    digest = blake2b(said, digest_size=DIGEST_BYTES).digest() + mark
    if not sketched or (len(forms) == 1 and not tagged):
        return digest
    return digest + SKETCH + sketch_of(forms, tagged)


def canonical_form(value: object) -> tuple[str, Any]:
    """The form as text, and the tagged JSON that it was made of; None of a value with a codec to itself."""
    own = binary.encode(value, type(value)) if type(value) not in custom.OWN_TYPES else None
    if own is not None:
        return f"{own.codec}:{blake2b(own.data).hexdigest()}", None
    tagged = tag(value)
    return canonical(tagged), tagged


def is_opaque(inputs: bytes) -> bool:
    """Whether arguments of that digest may differ from others of the same."""
    return inputs[DIGEST_BYTES : DIGEST_BYTES + 1] == OPAQUE


def same_inputs(one: bytes, other: bytes) -> bool:
    return one[:DIGEST_BYTES] == other[:DIGEST_BYTES]


def sketch_of(forms: Sequence[str], tagged: Mapping[str, Any]) -> bytes:
    """A byte for each argument, then for each part of those that have any."""
    outline = bytes([min(len(forms), 255)]) + checks(forms[:255])
    if not tagged or sum(map(len, forms)) > MOST_SKETCHED:
        return outline
    return outline + checks(grouped(parts_of(tagged)))


def checks(texts: Sequence[str]) -> bytes:
    return bytes([crc32(text.encode()) & 0xFF for text in texts])


def parts_of(tagged: Mapping[str, Any]) -> list[Part]:
    parts: list[Part] = []
    for name, form in tagged.items():
        add_parts(parts, form, name)
    return parts


def add_parts(parts: list[Part], tagged: Any, path: str) -> None:
    """Add the parts of what `tag` gave, those of a dictionary by name, each where it is found."""
    if type(tagged) is list and tagged:
        for index, item in enumerate(tagged):
            add_parts(parts, item, f"{path}[{index}]")
    elif type(tagged) is not dict or not tagged:
        parts.append((path, tagged))
    elif "$" not in tagged:
        for name in sorted(tagged):
            add_parts(parts, tagged[name], path + step_to(name))
    else:
        add_parts_of_value(parts, tagged, path)


def add_parts_of_value(parts: list[Part], tagged: Mapping[str, Any], path: str) -> None:
    kind, inner = tagged["$"], tagged["v"]
    if kind in WHOLE or type(inner) not in (dict, list):
        parts.append((path, tagged))
    elif kind == "dict":
        for key, item in inner:
            add_parts(parts, item, path + step_to(key))
    else:
        add_parts(parts, inner, path)
        beside = {name: item for name, item in tagged.items() if name not in NAMING}
        if beside:
            parts.append((path, beside))


def step_to(key: Any) -> str:
    if type(key) is not str:
        return f"[{key!r}]" if type(key) is int else "[...]"
    return f".{key}" if key.isidentifier() and len(key) < 40 else "[...]"


def grouped(parts: Sequence[Part]) -> list[str]:
    """Texts to check: each part's; of many, those of like parts together (`messages[].timestamp`)."""
    if len(parts) <= MOST_PARTS:
        return [canonical(form) for _, form in parts]
    kinds = by_kind(parts)
    return [canonical(forms) for forms in kinds.values()] if len(kinds) <= MOST_PARTS else []


def by_kind(parts: Sequence[Part]) -> dict[str, list[object]]:
    kinds: dict[str, list[object]] = {}
    for path, form in parts:
        kinds.setdefault(re.sub(r"\[-?\d+\]", "[]", path), []).append(form)
    return kinds


def differences(recorded: bytes, now: bytes, arguments: Mapping[str, object]) -> list[Part]:
    """What of these arguments is another than was recorded, as far as the record can tell; `now` is their digest."""
    then_checks, now_checks = sketched(recorded), sketched(now)
    if then_checks is None or now_checks is None or len(then_checks[0]) != len(now_checks[0]):
        changed = list(arguments) if len(arguments) == 1 else []
    else:
        changed = [list(arguments)[at] for at in unequal(then_checks[0], now_checks[0])]
    forms = {name: form_of(value) for name, value in arguments.items()}
    parts = shown_parts({name: form for name, form in forms.items() if type(form) in (dict, list)})
    found: list[Part] = []
    if then_checks and now_checks and len(then_checks[1]) == len(now_checks[1]) == len(parts):
        found = [parts[at] for at in unequal(then_checks[1], now_checks[1]) if argument_of(parts[at][0]) in changed]
    inside = {argument_of(path) for path, _ in found}
    return [(name, forms[name]) for name in changed if name not in inside] + found


def argument_of(path: str) -> str:
    return re.split(r"[.\[]", path, maxsplit=1)[0]


def shown_parts(tagged: Mapping[str, Any]) -> list[Part]:
    """Beside what `grouped` checks: where it is, and the form of it, the last one's of several."""
    parts = parts_of(tagged)
    return parts if len(parts) <= MOST_PARTS else [(kind, forms[-1]) for kind, forms in by_kind(parts).items()]


def form_of(value: object) -> Any:
    try:
        return canonical_form(value)[1]
    except UNFIT:
        return {}


def sketched(inputs: bytes) -> tuple[bytes, bytes] | None:
    """The bytes of the arguments, and those of their parts."""
    behind = inputs[DIGEST_BYTES:].removeprefix(OPAQUE)
    if not behind.startswith(SKETCH):
        return None
    count = behind[1]
    return behind[2 : 2 + count], behind[2 + count :]


def unequal(one: bytes, other: bytes) -> list[int]:
    return [at for at, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]


CLOCK = re.compile(r"(\d{4}-\d\d-\d\d[T ])?\d\d:\d\d")
IDENTITY = re.compile(r"[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")
FRESH = ("a time", "an id")


def told(parts: Sequence[Part]) -> str:
    """Which parts differ, in words: where they are and what is there, not what it says."""
    if not parts:
        return ""
    shown = ", ".join(f"{path} ({kind})" if (kind := kind_of(form)) else path for path, form in parts[:SHOWN])
    more = f" and {len(parts) - SHOWN} more" if len(parts) > SHOWN else ""
    fresh = dict.fromkeys(argument_of(path) for path, form in parts if kind_of(form) in FRESH)
    if not fresh:
        return f": {shown}{more}"
    names = ", ".join(f'"{name}"' for name in fresh)
    return (
        f": {shown}{more}; what is new in each attempt comes from kitaru.now() or uuid4(), or is left out: "
        f"@checkpoint(ignore=({names},))"
    )


def kind_of(form: Any) -> str:
    """What a tagged form is of: a number itself, of a text its length."""
    if type(form) is dict:
        return {"datetime": "a time", "time": "a time", "zoned": "a time", "uuid": "an id"}.get(form.get("$", ""), "")
    if type(form) is not str:
        return "" if type(form) is list else str(form)[:20]
    if CLOCK.match(form):
        return "a time"
    return "an id" if IDENTITY.fullmatch(form) else f"a text of {len(form)} characters"
