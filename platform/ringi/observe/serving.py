"""The small door of a process that has none: /metrics, /healthz and /readyz of the relay, the sequencer, the notifier, the watcher and the workers
(RINGI_METRICS_PORT).

/healthz is 503 when the process's loop hangs: start it anew. /readyz says what it misses; nothing routes by it. /metrics asks for the same
token as the API's where RINGI_METRICS_TOKEN is set.
"""

import hmac
import json
import logging
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy.exc import SQLAlchemyError

from ringi.observe import metrics, probes
from ringi.observe.probes import Found
from ringi.observe.signs import Signs
from ringi.settings import get_settings

log = logging.getLogger("ringi.observe")
_JSON = "application/json"


def may_scrape(authorization: str | None) -> bool:
    """Whether a header carries the deployment's metrics token; compared in constant time, and nobody may where none is set."""
    expected = get_settings().metrics_token
    given = (authorization or "").removeprefix("Bearer ")
    return bool(expected) and hmac.compare_digest(given.encode(), (expected or "").encode())


def needs(*, broker: bool) -> dict[str, Found]:
    """What a process behind the API depends on."""
    try:
        with probes.connected() as connection:
            found = {"database": probes.database(connection), "migrations": probes.migrations(connection)}
    except SQLAlchemyError as error:
        found = {"database": Found("unavailable", probes.reason(error))}
    return found | ({"broker": probes.broker()} if broker else {})


def start(*, broker: bool, signs: Signs | None = None) -> None:
    """Open the door where one is wanted. A port that is taken is told and no reason to stop: the work matters more than its figures."""
    settings = get_settings()
    if settings.metrics_port is None:
        return

    def hangs() -> bool:
        return signs is not None and signs.hangs()

    try:
        server = ThreadingHTTPServer((settings.metrics_host, settings.metrics_port), _handler(hangs, lambda: needs(broker=broker)))
    except OSError as error:
        log.error("no metrics on port %d: %s", settings.metrics_port, error.strerror)  # noqa: TRY400  # the whole story
        return
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()


def _handler(hangs: Callable[[], bool], missing: Callable[[], Mapping[str, Found]]) -> type[BaseHTTPRequestHandler]:
    class Door(BaseHTTPRequestHandler):
        # A client that says nothing must not hold a thread for ever.
        timeout = 10

        def do_GET(self) -> None:
            if self.path == "/healthz":
                self._answer_json(503 if hangs() else 200, {"status": "stuck" if hangs() else "ok"})
            elif self.path == "/readyz":
                found = missing()
                well = all(one.state != "unavailable" for one in found.values())
                status = {name: one._asdict() for name, one in found.items()}
                self._answer_json(200 if well else 503, {"status": "ok" if well else "unavailable", "dependencies": status})
            elif self.path == "/metrics" and get_settings().metrics_token and not may_scrape(self.headers["Authorization"]):
                self._answer_json(401, {"status": "needs RINGI_METRICS_TOKEN as a bearer token"})
            elif self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest(metrics.readable()))
            else:
                self._answer_json(404, {"status": "answers /metrics, /healthz and /readyz"})

        def _answer_json(self, status: int, document: object) -> None:
            self._answer(status, _JSON, json.dumps(document).encode())

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(HTTPStatus(status))
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # http.server's name
            log.debug(format, *args)

    return Door
