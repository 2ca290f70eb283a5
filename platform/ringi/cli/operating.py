"""Run what only the operator may do as a program of its own, with the settings of a data folder or of this environment.

The command line is a client and knows no database; these few verbs need the log's key file or the owner of the tables, and run where those are.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ringi.cli.errors import ApiError
from ringi.embedded.environment import environment_for


def operate(data_dir: Path, *arguments: str, program: str = "ringi.audit.operating") -> dict[str, Any]:
    """The document that `python -m` the program prints. Raises ApiError with its words."""
    environ = dict(os.environ) if os.environ.get("RINGI_DATABASE_URL") else {**os.environ, **environment_for(data_dir)}
    done = subprocess.run(
        [sys.executable, "-m", program, *arguments],
        env=environ,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode == 0:
        found: dict[str, Any] = json.loads(done.stdout)
        return found
    last = (done.stderr.strip().splitlines() or [""])[-1]
    try:
        said = json.loads(last)
    except ValueError:
        raise ApiError(f"The operator's program failed: {last[:500]}", code="operating_failed", status=500) from None
    raise ApiError(said["message"], code=said["code"], status=409, next_step=said["next_step"])
