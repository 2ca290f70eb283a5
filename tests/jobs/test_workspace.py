"""What a killed worker leaves on its disk is removed when the next one starts."""

import os
import platform
import subprocess
import sys
from pathlib import Path

_REMOVE = "from ringi_workers.workspace import remove_abandoned; print(remove_abandoned())"


def test_folders_of_workers_that_are_gone_are_removed_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    work = tmp_path / "work"
    gone, alive, foreign = (
        work / f"{platform.node()}--{ended.pid}--train-abc",
        work / f"{platform.node()}--{os.getpid()}--train-def",
        work / f"another-host--{ended.pid}--train-ghi",
    )
    for folder in (gone, alive, foreign):
        (folder / "blobs").mkdir(parents=True)
    environment = os.environ | {"RINGI_DATA_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", _REMOVE], env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), gone.exists(), alive.exists(), foreign.exists()) == ("1", False, True, True)
