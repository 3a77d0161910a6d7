"""An HTTP proxy that misbehaves on request, between a client and one server on loopback.

Each fault is used up by one request of its method; other requests pass. Knows nothing of S3 but its error bodies.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REFUSALS = {  # fault: status and S3's error code
    "slow_down": (503, "SlowDown"),
    "internal": (500, "InternalError"),
    "conflict": (409, "ConditionalRequestConflict"),
    "expired": (400, "ExpiredToken"),
    "denied": (403, "AccessDenied"),
    "no_bucket": (404, "NoSuchBucket"),
}


@dataclass
class Faults:
    """What to do with the next requests, and what was seen.

    Beside REFUSALS: 'reset' and 'close' (nothing forwarded), 'lost_reply' (forwarded, then closed without an answer),
    'cut_reply' (half of the body), 'claim' (200 without forwarding: a store that ignores conditions).
    delay_s: how long each request takes at least.
    """

    port: int
    delay_s: float = 0.0
    planned: list[tuple[str, str]] = field(default_factory=list)  # method, fault
    seen: list[tuple[str, str, int]] = field(default_factory=list)  # method, path, bytes of the reply's body
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def plan(self, method: str, *faults: str) -> None:
        self.planned += [(method, fault) for fault in faults]

    def take(self, method: str) -> str:
        with self.lock:
            for index, (of, fault) in enumerate(self.planned):
                if of == method:
                    del self.planned[index]
                    return fault
        return ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # 40 ms for each reply otherwise
    faults: Faults
    server_port: int

    def relay(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        time.sleep(self.faults.delay_s)
        fault = self.faults.take(self.command)
        if fault in REFUSALS:
            status, code = REFUSALS[fault]
            text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>planned</Message></Error>"
            return self.answer(status, {"Content-Type": "application/xml"}, text.encode())
        if fault == "claim":
            return self.answer(200, {"ETag": '"0"'}, b"")
        if fault in ("reset", "close"):
            return self.hang_up(politely=fault == "close")
        upstream = http.client.HTTPConnection("127.0.0.1", self.server_port, timeout=30)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("expect", "connection")}
        upstream.request(self.command, self.path, body, headers)  # Host stays the proxy's: it is signed
        reply = upstream.getresponse()
        content = reply.read()
        upstream.close()
        if fault == "lost_reply":
            return self.hang_up()
        kept = {name: value for name, value in reply.getheaders() if name.lower() not in ("transfer-encoding", "date")}
        if self.command != "HEAD":
            kept["Content-Length"] = str(len(content))
        return self.answer(reply.status, kept, content[: len(content) // 2] if fault == "cut_reply" else content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = relay

    def answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        with self.faults.lock:
            self.faults.seen.append((self.command, self.path, len(content)))
        length = headers.pop("Content-Length", str(len(content)))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        if self.command != "HEAD" and len(content) < int(length):
            self.hang_up()

    def hang_up(self, politely: bool = False) -> None:
        """The end of the connection instead of an answer: a reset, unless politely."""
        if not politely:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # the connection was closed on purpose
            super().finish()


@contextlib.contextmanager
def faulty(server_port: int, delay_s: float = 0.0) -> Iterator[Faults]:
    """A proxy in front of the server, for as long as the block lasts. delay_s: of each request."""
    handler = type("Handler", (Handler,), {"server_port": server_port})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        faults = Faults(server.server_address[1], delay_s)
        handler.faults = faults
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield faults
        finally:
            server.shutdown()
            thread.join()
