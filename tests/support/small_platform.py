"""Run the real supervisor over a tiny plan: `python small_platform.py DATA_DIR PORT`. One web server, one program that only waits."""

import os
import sys
from pathlib import Path

from ringi.embedded.services import Plan, Service
from ringi.embedded.supervise import supervise

OWN_SERVERS = dict.fromkeys(("RINGI_DATABASE_URL", "RINGI_PLATFORM_DATABASE_URL", "RINGI_OWNER_DATABASE_URL", "RINGI_BROKER_URL"), "unused")


def small_plan(data_dir: Path, port: int) -> Plan:
    """`web` serves the data folder, in which the first step has put the file `readyz`."""
    prepare = Service("prepare", (sys.executable, "-c", "open('readyz', 'w').close()"), cwd=data_dir)
    web = Service("web", (sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"))
    waiter = Service("waiter", (sys.executable, "-c", "import signal; signal.pause()"))
    return Plan((prepare,), (web, waiter), f"http://127.0.0.1:{port}/readyz", f"http://127.0.0.1:{port}")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    supervise(folder, small_plan(folder, int(sys.argv[2])), lambda line: print(line, flush=True), os.environ | OWN_SERVERS)
