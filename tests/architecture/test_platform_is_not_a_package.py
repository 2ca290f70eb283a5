"""`platform/` is a source root. With a `platform/__init__.py`, `import platform` from the repository's root would give that folder:
the standard library's module is gone, and so are `uuid`, pytest and most of the world. Plain `pytest` would notice nothing.
"""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("folder", ["platform", "workers", "migrations", "tests"])
def test_a_source_root_is_no_package(folder: str) -> None:
    assert (ROOT / folder).is_dir()
    assert not (ROOT / folder / "__init__.py").exists()


def test_import_platform_from_the_root_gives_the_standard_library() -> None:
    code = "import platform, uuid; print(platform.__file__); platform.python_version(); uuid.uuid4()"
    # `-c` puts the current folder first on the path, as `python -m pytest` does.
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert Path(answer.stdout.strip()).parent == Path(sysconfig.get_path("stdlib"))
