"""`make demo`: one adapter, end to end, on a real model and real text, by the command line and through the REST API.

Leaves the data folder (RINGI_DATA_DIR, default `.ringi`), so that `ringi up` goes on from it. The parts of the story are birth.py and governance.py.
"""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from ringi.embedded.processes import platform_status
from ringi.kit.errors import RingiError
from ringi_workers.demo import birth, governance
from ringi_workers.demo.sources import default_cache, fetch_base_model, fetch_chat_corpus
from ringi_workers.demo.stage import Stage


def tell(stage: Stage, scratch: Path) -> None:
    """The whole story; raises DemoFailed where it does not go as it must."""
    with stage.chapter("Getting ready"):
        base = fetch_base_model(default_cache(), lambda progress: stage.say(progress.phase))
        rows = fetch_chat_corpus(default_cache(), lambda progress: stage.say(progress.phase))
        stage.note("base model and text are in the cache")
        stage.run("up", "--data-dir", str(stage.data_dir))
        server = str(platform_status(stage.data_dir).api_url)
        stage.note(f"platform up at {server}")
    with stage.chapter("1 People"):
        birth.people(stage)
    with stage.chapter("2 Base model"):
        birth.base_model(stage, base)
    with stage.chapter("3 Dataset"):
        birth.dataset(stage, rows)
    with stage.chapter("4 Training"):
        birth.training(stage)
    with stage.chapter("5 Trained elsewhere"):
        birth.elsewhere(stage, server, rows, scratch)
    with stage.chapter("6 Evaluation"):
        birth.evaluation(stage, "v1")
    with stage.chapter("7 Approval"):
        governance.approve(stage, "v1")
    with stage.chapter("8 Release"):
        governance.releases(stage)
        birth.evaluation(stage, "v2")
        governance.approve(stage, "v2")
        governance.second_release(stage)
    with stage.chapter("9 Pull"):
        governance.pull(stage, server, scratch)
        governance.revoke(stage, server, scratch)
    with stage.chapter("10 New base"):
        governance.new_bases(stage, base, scratch)
    with stage.chapter("11 Audit"):
        governance.audit(stage, scratch)


def main() -> int:
    """Exit status 0 when the whole story was told."""
    data_dir = Path(os.environ.get("RINGI_DATA_DIR", ".ringi")).absolute()
    stage = Stage(data_dir)
    if (data_dir / "demo-profiles.json").exists() or (data_dir / "postgres").exists():
        stage.console.print(
            f"{data_dir} holds data already. Start it with: ringi up --data-dir {data_dir}\nOr tell the story in another folder: RINGI_DATA_DIR=./other make demo"
        )
        return 1
    data_dir.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix="ringi-demo-"))
    try:
        tell(stage, scratch)
    except RingiError as error:
        stage.console.print(f"[red]{error.code}[/]: {error}", soft_wrap=True)
        stage.console.print(
            f"The platform is still up: ringi status --data-dir {data_dir}; logs are in {data_dir / 'logs'}.", soft_wrap=True
        )
        return 1
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    stage.console.print(stage.table())
    server = platform_status(data_dir).api_url
    stage.console.print(f"Told in {time.monotonic() - begun:.0f} s. API docs: {server}/docs", soft_wrap=True)
    stage.console.print(
        f"The platform is up; stop it with: ringi down --data-dir {data_dir}; go on with: ringi up --data-dir {data_dir}", soft_wrap=True
    )
    stage.console.print(f"Profiles of its people: export RINGI_CONFIG={data_dir / 'demo-profiles.json'}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
