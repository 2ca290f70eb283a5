"""A real OTLP/HTTP receiver: `python otlp_receiver.py PORT FILE`. Every span that arrives becomes one JSON line."""

import gzip
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse


def spans_of(body: bytes) -> list[dict[str, Any]]:
    """The spans of one export (opentelemetry-proto, collector/trace/v1)."""
    request = ExportTraceServiceRequest()
    request.ParseFromString(body)
    found = []
    for resource in request.resource_spans:
        service = next(one.value.string_value for one in resource.resource.attributes if one.key == "service.name")
        for scope in resource.scope_spans:
            for span in scope.spans:
                attributes = {one.key: getattr(one.value, one.value.WhichOneof("value") or "string_value") for one in span.attributes}
                found.append({
                    "service": service, "name": span.name, "trace_id": span.trace_id.hex(), "span_id": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(), "kind": int(span.kind), "status": int(span.status.code), "attributes": attributes,
                    "events": len(span.events), "said": span.status.message,
                })  # fmt: skip
    return found


def main(port: int, file: Path) -> None:
    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            with file.open("a", encoding="utf-8") as stream:
                stream.writelines(json.dumps(span) + "\n" for span in spans_of(body))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # http.server's name
            pass

    HTTPServer(("127.0.0.1", port), Receiver).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
