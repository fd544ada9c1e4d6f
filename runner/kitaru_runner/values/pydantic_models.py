"""Models of pydantic as JSON: their fields, which of them were set, what came beyond them, private attributes.

    {"$": "model", "of": "flows:Patch", "v": {"name": "x", "age": null}, "set": ["name"]}

A model is made again without validation, as unpickling does: aliases and validators change nothing. pydantic itself is
never imported here: where there is a model, it was.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from kitaru_runner.values.binary import NotTaggable
from kitaru_runner.values.fields import filled, is_made_by_object, keeps_itself_as, set_slots, slots_of, tag_state
from kitaru_runner.values.types_as_values import reference, referred, required_name

Tag = Callable[[Any], Any]
Json = dict[str, Any]


def is_model(kind: type) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and hasattr(pydantic, "TypeAdapter") and issubclass(kind, pydantic.BaseModel)


def tagged(value: Any, kind: type, tag: Tag) -> Json:
    """
    Raises:
        NotTaggable: it holds what JSON cannot carry, and its own JSON form does not say all of it.
    """
    try:
        return tag_state_of_model(value, kind, tag)
    except NotTaggable:
        return tag_json_form(value, kind)


def tag_state_of_model(value: Any, kind: Any, tag: Tag) -> Json:
    pydantic: Any = sys.modules["pydantic"]
    base = pydantic.RootModel if issubclass(kind, pydantic.RootModel) else pydantic.BaseModel
    if not is_made_by_object(kind) or not keeps_itself_as(kind, base):
        raise NotTaggable
    state = kind.__getstate__(value)
    fields, extra = state["__dict__"], state.get("__pydantic_extra__")
    if extra is not None and fields.keys() & extra.keys():
        raise NotTaggable
    held = fields if extra is None else fields | extra
    found: Json = {"$": "model", "of": reference(kind, tag), "v": tag_state(held, kind, tag)}
    if state["__pydantic_fields_set__"] != found["v"].keys():
        found["set"] = sorted(state["__pydantic_fields_set__"])
    if extra is not None:
        found["extra"] = list(extra)
    if state.get("__pydantic_private__") is not None:
        found["private"] = {name: tag(item) for name, item in state["__pydantic_private__"].items()}
    slots = {name: slot for name, slot in slots_of(kind).items() if not name.startswith("__pydantic_")}
    if slots:
        found["slots"] = tag_state(set_slots(value, kind, slots), kind, tag)
    return found


def read_model(tagged: Json, untag: Tag) -> Any:
    kind: Any = referred(tagged["of"], untag)
    held = {name: untag(item) for name, item in tagged["v"].items()}
    were_set = set(tagged.get("set", held))
    private = tagged.get("private")
    state = {
        "__pydantic_extra__": {name: held.pop(name) for name in tagged["extra"]} if "extra" in tagged else None,
        "__pydantic_private__": None if private is None else {name: untag(item) for name, item in private.items()},
        "__pydantic_fields_set__": were_set,
        "__dict__": held,
    }
    value = object.__new__(kind)
    kind.__setstate__(value, state)
    return filled(value, kind, {name: untag(item) for name, item in tagged.get("slots", {}).items()})


def tag_json_form(value: Any, kind: type) -> Json:
    """The model's own JSON form, where reading it gives the same model."""
    try:
        content = value.model_dump(mode="json", round_trip=True, warnings=False)
        dumped = {"$": "pydantic", "type": required_name(kind), "v": content}
        back = read_json_form(dumped, referred_by_name)
        same = back == value and all(is_same(dump(back, only_set), dump(value, only_set)) for only_set in (False, True))
    except Exception as error:
        raise NotTaggable from error
    if not same:
        raise NotTaggable
    return dumped


def referred_by_name(said: Any) -> Any:
    return said


def dump(value: Any, only_set: bool) -> Any:
    return value.model_dump(warnings=False, exclude_unset=only_set)


def read_json_form(tagged: Json, untag: Tag) -> Any:
    """By validation; where people gave fields by their names instead of a recorded model, by those or by aliases."""
    kind: Any = referred(tagged["type"], untag)
    by: Json = {"by_name": True, "by_alias": True} if tagged.get("by") == "name" and takes_names(kind) else {}
    return kind.model_validate_json(json.dumps(tagged["v"]), **by)


def takes_names(kind: Any) -> bool:
    """pydantic 2.11 and later."""
    return "by_name" in kind.model_validate_json.__func__.__code__.co_varnames


def is_same(one: Any, other: Any) -> bool:
    """Equal in value and type, all the way down: `1 == 1.0`, and an enum's member may equal its text."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_same(item, other[key]) for key, item in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    return bool(one == other)


READERS = {"model": read_model, "pydantic": read_json_form}
