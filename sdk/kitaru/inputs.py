"""What a flow is given, as bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kitaru_registry.errors import KitaruUsageError
from kitaru_registry.journal.entries import Encoded
from kitaru_runner.values import codec


def encode_inputs(flow: str, inputs: Mapping[str, Any]) -> Encoded:
    """
    Raises:
        KitaruUsageError: names the input that no codec carries.
    """
    try:
        return codec.encode(dict(inputs))
    except KitaruUsageError:
        for name, value in inputs.items():
            try:
                codec.encode(value)
            except KitaruUsageError as error:
                raise KitaruUsageError(f"{name} of {flow}: {error.message}", hint=instead(error)) from error
        raise


def instead(error: KitaruUsageError) -> str | None:
    """A flow is given its inputs; it does not return them."""
    return error.hint.replace("return ", "give ", 1) if error.hint else None
