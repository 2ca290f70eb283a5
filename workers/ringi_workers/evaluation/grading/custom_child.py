"""The other side of `custom.py`: a process of its own that imports one module of the user's and calls one function of it, item by item.

Run by its path with `python -I`, so that it sees neither this project's folders nor anything of the worker's environment. Standard library only.
Lines of JSON: in {"item", "answer", "arguments", "timeout_s"}, out {"score", "note"} or {"problem", "note"}. The first line out says whether the
function is there.
"""

import importlib
import json
import math
import numbers
import os
import resource
import sys
from typing import Any

_NOTE = 500
_MAX_NOTE = 10_000
_FILE_BYTES = 16 * 1024**2
_FILES = 128


def _bound(memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_BYTES, _FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, _FILES))


def _bound_time(seconds: float) -> None:
    """The worker ends what hangs by the clock; this ends it as well where the worker is gone."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used.ru_utime + used.ru_stime + seconds) + 1, hard))


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:_NOTE]


def _judged(returned: Any) -> dict[str, Any]:
    """A number, None, or either with a note."""
    score, note = returned if isinstance(returned, tuple) and len(returned) == 2 else (returned, "")  # noqa: PLR2004 - score and note
    if not isinstance(note, str) or (score is not None and not isinstance(score, numbers.Real)):
        return {"problem": "scorer_wrong_type", "note": f"it returned {type(returned).__name__}"}
    if len(note) > _MAX_NOTE:
        return {"problem": "scorer_output_too_large", "note": f"a note of {len(note)} characters"}
    if score is not None and not math.isfinite(score):
        return {"problem": "scorer_not_finite", "note": str(score)}
    return {"score": None if score is None else float(score), "note": note}


def _asked(function: Any, line: str) -> dict[str, Any]:
    asked = json.loads(line)
    _bound_time(asked["timeout_s"])
    try:
        return _judged(function(asked["item"], asked["answer"], **asked["arguments"]))
    except MemoryError:
        return {"problem": "scorer_out_of_memory", "note": ""}
    except Exception as error:  # noqa: BLE001 - the user's code may raise anything
        return {"problem": "scorer_raised", "note": _named(error)}


def main(module: str, name: str, memory: int, folder: str) -> None:
    """Answer every line until there is none. What the module prints goes nowhere."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    _bound(memory)
    if folder:
        sys.path.insert(0, folder)
    try:
        function = getattr(importlib.import_module(module), name)
        ready = {} if callable(function) else {"problem": "scorer_not_found", "note": f"{module}:{name} cannot be called"}
    except (ImportError, AttributeError) as error:
        function, ready = None, {"problem": "scorer_not_found", "note": _named(error)}
    except MemoryError:
        function, ready = None, {"problem": "scorer_out_of_memory", "note": "on import"}
    except Exception as error:  # noqa: BLE001 - the user's code may raise anything
        function, ready = None, {"problem": "scorer_raised", "note": _named(error)}
    print(json.dumps(ready), file=out, flush=True)
    if "problem" in ready:
        return
    for line in sys.stdin:
        print(json.dumps(_asked(function, line)), file=out, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
