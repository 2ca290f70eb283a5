"""The environments that peers run in: each has its own, made once and kept in the user's cache, so that its pins are not ours."""

import os
import subprocess
import sys
import venv
from pathlib import Path


def environment(name: str, *requirements: str) -> Path:
    """The `bin` folder of a virtual environment with `requirements` installed; takes minutes the first time."""
    root = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ringi" / "benchmarks" / name
    marker = root / ".installed"
    wanted = "\n".join(requirements)
    if not marker.exists() or marker.read_text(encoding="utf-8") != wanted:
        print(f"installing {', '.join(requirements)} into an environment of its own", file=sys.stderr, flush=True)
        venv.create(root, with_pip=True, clear=True)
        pip = [str(root / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
        subprocess.run(pip, check=True, stdout=sys.stderr)
        marker.write_text(wanted, encoding="utf-8")
    return root / "bin"
