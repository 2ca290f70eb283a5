"""A DNS server over UDP whose answers a test may exchange between two questions: what a hostile name server does."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


@dataclass
class NameServer:
    """`names` maps a name to its addresses; `asked` keeps every question as (name, type)."""

    names: dict[str, list[str]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    port: int = 0

    @property
    def server(self) -> str:
        """The value of RINGI_WEBHOOK_DNS."""
        return f"127.0.0.1:{self.port}"


@contextmanager
def name_server() -> Iterator[NameServer]:
    """A running name server."""
    names = NameServer()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            data, sender = self.request
            query = dns.message.from_wire(data)
            sender.sendto(_answer(names, query).to_wire(), self.client_address)

    server = socketserver.ThreadingUDPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    names.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)  # thread: a server of other people
    thread.start()
    try:
        yield names
    finally:
        server.shutdown()
        server.server_close()


def _answer(names: NameServer, query: Any) -> Any:
    answer = dns.message.make_response(query)
    answer.flags |= dns.flags.RA
    question = query.question[0]
    name, kind = question.name.to_text().rstrip("."), dns.rdatatype.to_text(question.rdtype)
    names.asked.append((name, kind))
    if name not in names.names:
        answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer
    fitting = [address for address in names.names[name] if (":" in address) == (kind == "AAAA") and kind in {"A", "AAAA"}]
    if fitting:
        answer.answer.append(dns.rrset.from_text(question.name, 0, "IN", kind, *fitting))
    return answer
