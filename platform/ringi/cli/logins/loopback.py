"""Where the browser comes back to: one request at a port of this machine that was free (RFC 8252, section 7.3)."""

import http.server
import time
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from ringi.cli.logins.refusals import LoginTimedOut, PortTaken

HOST, PATH = "127.0.0.1", "/callback"
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Ringi</title></head>
<body style="font-family: sans-serif; max-width: 36rem; margin: 4rem auto">
<p>Ringi has the answer of your identity provider. You can close this page; the terminal says how it ended.</p>
<p lang="ja">認証サーバーの応答を受け取りました。この画面は閉じてかまいません。結果は端末に表示されます。</p>
</body></html>
""".encode()
# A connection that says nothing must not keep the one that we wait for out.
_SILENT_S = 5.0


class Came(NamedTuple):
    """The parameters of the request."""

    said: dict[str, str]


class Loopback(http.server.HTTPServer):
    """Listens from the moment it is made; `wait` takes one answer, then nobody listens any more."""

    # A port that another program holds must not be shared with it.
    allow_reuse_address = False

    def __init__(self, port: int = 0) -> None:
        """Raises PortTaken."""
        self.came: Came | None = None
        try:
            super().__init__((HOST, port), _Answer)
        except OSError as error:
            raise PortTaken(port, error.strerror or str(error)) from error

    @property
    def redirect_uri(self) -> str:
        """What the provider is told."""
        return f"http://{HOST}:{self.server_port}{PATH}"

    def wait(self, patience_s: float) -> dict[str, str]:
        """The parameters of the provider's answer. Raises LoginTimedOut."""
        until = time.monotonic() + patience_s
        try:
            while self.came is None:
                self.timeout = until - time.monotonic()
                if self.timeout <= 0:
                    raise LoginTimedOut(patience_s)
                self.handle_request()
        finally:
            self.server_close()
        return self.came.said

    def handle_error(self, *_: object) -> None:
        """A browser that hangs up is no story."""


class _Answer(http.server.BaseHTTPRequestHandler):
    server: Loopback
    timeout = _SILENT_S

    def do_GET(self) -> None:  # the library's name
        asked = urlsplit(self.path)
        # Another name in `Host` is a page elsewhere that made its own name point here.
        if asked.path != PATH or self.headers.get("Host") != f"{HOST}:{self.server.server_port}":
            self.send_error(404)
            return
        pairs = parse_qsl(asked.query, keep_blank_values=True)
        said = dict(pairs)
        if len(said) != len(pairs):
            # RFC 6749, 3.1: no parameter comes twice, and what says so is no provider.
            self.send_error(400)
            return
        self.server.came = Came(said)
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(_PAGE)))
        for name, value in {
            "Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "Connection": "close",
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
        }.items():  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(_PAGE)

    def log_message(self, *_: object) -> None:
        """The address holds the code, which stands in no log."""
