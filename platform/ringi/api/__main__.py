"""`python -m ringi.api`: the API's process, as every deployment starts it. Settings are environment variables (ringi.settings).

`FORWARDED_ALLOW_IPS` says whose `X-Forwarded-For` is believed, and `WEB_CONCURRENCY` how many processes there are unless `--workers` does.
"""

import argparse
import gc
from collections.abc import Sequence

import uvicorn


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(prog="python -m ringi.api", description="Serve the API.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8400)
    parser.add_argument("--workers", type=int, default=None, metavar="N", help="processes on the one port")
    given = parser.parse_args(argv)
    # What is imported stays: looking for garbage in it meanwhile is a sixth of the start. Switched on again by the application's lifespan.
    gc.disable()
    # Named, not imported: each process of several loads them itself. A request that asks for a WebSocket is a request like others.
    uvicorn.run(
        "ringi.api.app:app", host=given.host, port=given.port, workers=given.workers, http="ringi.api.bounded:BoundedHttp", ws="none",
        access_log=False,
    )  # fmt: skip


if __name__ == "__main__":
    main()
