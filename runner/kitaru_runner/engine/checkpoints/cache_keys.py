"""Under which key a call's outcome is found again, in any execution: the code, the function with what it holds, inputs.

Two functions of one name differ in what they have closed over, in their defaults, in what a partial has bound, and,
where they are local or lambdas, in their code. What of that has no canonical form keeps the call from being cached.
"""

from __future__ import annotations

import functools
import sys
import types
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from kitaru_runner.values.arguments import DIGEST_BYTES, canonical_form, is_opaque
from kitaru_runner.values.fields import is_made_by_object, state_of
from kitaru_runner.values.named_types import is_named, type_name
from kitaru_runner.values.tagged import UNFIT

if TYPE_CHECKING:
    from kitaru_runner.engine.core.attempt import Attempt
    from kitaru_runner.engine.core.specs import Work

Seen = frozenset[int]
"""Ids of the functions around: one may have itself in its closure."""


class NoForm(Exception):
    """The function holds something of which nobody can say whether it is the same."""


def cache_key(attempt: Attempt, work: Work, inputs: bytes) -> bytes | None:
    """The key; None: the call is not cached, and where its checkpoint says `cache=True` a warning says why."""
    opening, wanted = attempt.opening, work.spec.cache
    # A guard is not opened by what the whole flow says: its effect would not happen.
    if opening.cache is not None and work.spec.replay != "never":
        wanted = opening.cache
    if not wanted or not opening.code:
        return None
    try:
        if is_opaque(inputs):
            raise NoForm("an argument")
        said = f"{opening.code}\0{form_of(work.spec.function, frozenset())}\0".encode("utf-8", "surrogatepass")
    except NoForm as error:
        if work.spec.cache:
            why = f"{error} has no canonical form; @checkpoint(ignore=...) leaves an argument out"
            attempt.warn(f"{work.spec.name}!cache", f"checkpoint {work.spec.name} is not cached: {why}")
        return None
    return blake2b(said + inputs[:DIGEST_BYTES], digest_size=16).digest()


def form_of(value: Any, seen: Seen) -> str:
    """A text that is equal for what is equal, in any process.

    Raises:
        NoForm: there is none.
    """
    if id(value) in seen:
        return "itself"
    seen = seen | {id(value)}
    if isinstance(value, functools.partial):
        bound = form_of(value.args, seen), form_of(value.keywords, seen)
        return f"partial({form_of(value.func, seen)}, {bound[0]}, {bound[1]})"
    if isinstance(value, types.MethodType):
        return f"{form_of(value.__self__, seen)}.{form_of(value.__func__, seen)}"
    if isinstance(value, types.FunctionType):
        return form_of_function(value, seen)
    if isinstance(value, types.ModuleType):
        return f"module {value.__name__}"
    if isinstance(value, types.BuiltinFunctionType):
        return f"{form_of(value.__self__, seen)}.{value.__qualname__}"
    if hasattr(value, "__wrapped__"):  # a checkpoint, a flow, what functools.lru_cache made
        return f"{type(value).__qualname__}({form_of(value.__wrapped__, seen)})"
    return form_of_value(value, seen)


def form_of_value(value: Any, seen: Seen) -> str:
    try:
        return canonical_form(value)[0]
    except UNFIT:
        pass
    kind: type = type(value)
    if kind in (list, tuple):
        return f"{kind.__name__}[{', '.join(form_of(item, seen) for item in value)}]"
    if kind is dict:
        return f"dict[{', '.join(f'{form_of(key, seen)}: {form_of(item, seen)}' for key, item in value.items())}]"
    if is_named(kind) and not state_of(value, kind) and is_made_by_object(kind):
        return f"a {type_name(kind)}"  # which holds nothing
    raise NoForm(f"a value of type {kind.__qualname__} that its function holds")


def form_of_function(function: types.FunctionType, seen: Seen) -> str:
    held = [form_of(value, seen) for value in (function.__defaults__, function.__kwdefaults__)]
    for cell in function.__closure__ or ():
        try:
            held.append(form_of(cell.cell_contents, seen))
        except ValueError:  # nothing is in it yet
            held.append("empty")
    return f"{module_of(function)}:{function.__qualname__} {digest_of_code(function.__code__)} ({'; '.join(held)})"


def module_of(function: types.FunctionType) -> str:
    """Its name; of a script the name that it has when it is deployed."""
    if function.__module__ != "__main__":
        return function.__module__
    return str(getattr(sys.modules["__main__"], "__kitaru_name__", "__main__"))


@functools.lru_cache(maxsize=1024)
def digest_of_code(code: types.CodeType) -> str:
    said = blake2b(code.co_code, digest_size=16)
    for names in (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars):
        said.update(f"{names}\0".encode("utf-8", "surrogatepass"))
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
    said.update(f"{counts}\0{[form_of_constant(each) for each in code.co_consts]}".encode("utf-8", "surrogatepass"))
    return said.hexdigest()


def form_of_constant(constant: Any) -> str:
    if isinstance(constant, types.CodeType):
        return digest_of_code(constant)
    if isinstance(constant, frozenset | tuple):
        forms = [form_of_constant(item) for item in constant]
        return f"{type(constant).__name__}{sorted(forms) if isinstance(constant, frozenset) else forms}"
    return f"{type(constant).__name__} {constant!r}"
