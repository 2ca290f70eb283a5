"""A server that answers like MLflow and means harm: `python hostile_mlflow.py PORT`. The model's name says what it does.

The artifact root of model `name` is `mlflow-artifacts:/name`. Whoever sends no `Authorization: Bearer good` gets 401 under `/private`.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

CONFIG = json.dumps({"peft_type": "LORA", "r": 4, "base_model_name_or_path": "example/tiny-base", "target_modules": ["q_proj"]}).encode()
FILES = [
    {"path": "adapter_config.json", "is_dir": False, "file_size": len(CONFIG)},
    {"path": "adapter_model.safetensors", "is_dir": False, "file_size": 1000},
]
# What stands in a listing beside the two files of an adapter.
BESIDE = {
    "parent": "../../etc/passwd",
    "dots": "..",
    "absolute": "/etc/passwd",
    "deeper": "a/b",
    "backslash": "..\\evil",
    "encoded": "%2e%2e",
    "control": "a\nb",
    "override": "a\u202eb",
    "empty": "",
}
URIS = {
    "uri_up": "mlflow-artifacts:/../../etc",
    "uri_encoded_up": "mlflow-artifacts:/%2e%2e/%2e%2e/etc",
    "uri_other_host": "mlflow-artifacts://example.com/x",
    "uri_web": "https://example.com/api/2.0/mlflow-artifacts/artifacts/x",
    "uri_file": "file:///etc",
    "uri_s3": "s3://bucket/key",
}
HONEST = (
    "FAQ Bot",
    "faq-bot",
    "plain",
    "long",
    "short",
    "endless",
    "circle",
    "moved",
    "huge_listing",
    "deep",
    "wide",
    "not_ready",
    "pickle",
)


class Handler(BaseHTTPRequestHandler):
    """GET only."""

    def do_GET(self) -> None:
        """Answer one request."""
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        path = parts.path
        if path.startswith("/private"):
            if self.headers.get("Authorization") != "Bearer good":
                return self.say({"error_code": "UNAUTHENTICATED", "message": "who are you?"}, status=401)
            path = path.removeprefix("/private")
        if path.endswith("/registered-models/search"):
            return self.say({"registered_models": [{"name": name} for name in (*BESIDE, *URIS, *HONEST)]})
        if path.endswith("/model-versions/search"):
            name = query["filter"].partition("=")[2][1:-1]
            status = "PENDING_REGISTRATION" if name == "not_ready" else "READY"
            return self.say({"model_versions": [{"name": name, "version": "1", "status": status, "source": URIS.get(name, "x")}]})
        if path.endswith("/model-versions/get-download-uri"):
            return self.say({"artifact_uri": URIS.get(query["name"], f"mlflow-artifacts:/{query['name']}")})
        if path == "/api/2.0/mlflow-artifacts/artifacts":
            return self.listing(query.get("path", ""))
        return self.file(unquote(path.partition("/mlflow-artifacts/artifacts/")[2]))

    def listing(self, folder: str) -> None:
        """A folder as the model's name has it."""
        name = folder.partition("/")[0]
        if name in BESIDE:
            return self.say({"files": [*FILES, {"path": BESIDE[name], "is_dir": True}]})
        if name == "circle":
            return self.say({"files": FILES, "next_page_token": "again"})
        if name == "moved":
            self.send_response(302)
            self.send_header("Location", "http://example.com/files")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        if name == "huge_listing":
            return self.say({"files": [{"path": f"file{number}", "is_dir": False} for number in range(11_000)]})
        if name == "deep":
            return self.say({"files": [{"path": "again", "is_dir": True}]})
        if name == "wide":
            return self.say({"files": [{"path": f"folder{number}", "is_dir": True} for number in range(400)]})
        if name == "pickle":
            return self.say({"files": [FILES[0], {"path": "adapter_model.bin", "is_dir": False, "file_size": 10}]})
        return self.say({"files": FILES})

    def file(self, path: str) -> None:
        """A file: right, too short, or without an end."""
        name, _, file = path.partition("/")
        if file == "adapter_config.json":
            return self.send(CONFIG, len(CONFIG))
        if name == "endless":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"\0" * 65536)
            except OSError:
                return None
        return self.send(b"\0" * {"long": 1500, "short": 500}.get(name, 1000), None)

    def say(self, document: object, *, status: int = 200) -> None:
        """JSON."""
        self.send(json.dumps(document).encode(), None, status=status)

    def send(self, body: bytes, size: int | None, *, status: int = 200) -> None:
        """Bytes."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if size is None else size))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
