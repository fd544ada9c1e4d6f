"""The process that imports packed code in its locked environment, and says what flow is there (import_check.py).

Standard library, and pydantic at need.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from kitaru_registry.errors import KitaruError
from kitaru_registry.journal.messages import CODEC, PROTOCOL
from kitaru_runner.child.loader import find_flow, load_module, split_target
from kitaru_runner.values.signatures import input_schema, output_schema


def main() -> None:
    """`python -m kitaru_runner.child.describe CODE ENTRYPOINT DESCRIPTOR`, in the folder of the code."""
    code, entrypoint, descriptor = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    sys.argv[:] = [entrypoint]
    sys.dont_write_bytecode = True
    try:
        answer = import_flow(code, entrypoint)
    except KitaruError as error:
        answer = {
            "error": {"kind": "kitaru", "type": type(error).__name__, "message": error.message, "hint": error.hint}
        }
    except BaseException as error:  # sys.exit() at import is the user's mistake too
        answer = {"error": failure(error, code)}
    with os.fdopen(descriptor, "w") as pipe:
        json.dump(answer, pipe)
    sys.stdout.flush()
    # No atexit handlers of the imported code, and no waiting for its threads.
    os._exit(0)


def import_flow(code: Path, entrypoint: str) -> dict[str, Any]:
    """The fields of its FlowDescription (import_check.py)."""
    file, name = split_target(entrypoint)
    flow = find_flow(load_module(code, code / file), name, file=file)
    return {
        "flow": flow.name,
        "retries": flow.options.retries,
        "cache": flow.options.cache,
        "finish_timeout": flow.options.finish_timeout,
        "input_schema": input_schema(flow.function),
        "output_schema": output_schema(flow.function),
        "protocol": PROTOCOL,
        "codec": CODEC,
    }


def failure(error: BaseException, code: Path) -> dict[str, Any]:
    """The user's traceback, without the frames of the loader."""
    frames = traceback.extract_tb(error.__traceback__)
    first = next((i for i, frame in enumerate(frames) if frame.filename.startswith(str(code))), len(frames))
    shown = traceback.TracebackException.from_exception(error)
    shown.stack = traceback.StackSummary.from_list(frames[first:])
    described: dict[str, Any] = {
        "kind": "user",
        "type": type(error).__name__,
        "message": str(error),
        "traceback": "".join(shown.format(chain=False)),
    }
    if isinstance(error, KeyError) and frames and frames[-1].filename in (os.__file__, "<frozen os>"):
        described["variable"] = str(error.args[0])
    if isinstance(error, ModuleNotFoundError):
        described["module"] = error.name
    return described


if __name__ == "__main__":
    main()
