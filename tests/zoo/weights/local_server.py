"""A small local HTTP server with the faults of real servers and connections."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """The response of one path of the server, and the requests it received.

    Attributes:
        content: Content of the file.
        etag: ETag header; None sends none.
        ranges: Whether Range headers are supported.
        cut: For each request, the number of bytes after which the connection breaks; None if it does not.
        status: HTTP status. Unless it is 200, it is sent instead of the file.
        failures: Number of requests that `status` applies to; later ones get the file.
        headers: Additional headers.
        seconds: Delay of the response.
        endless: Repeat the content forever, without a Content-Length.
        trickle: Send one byte at a time, with this delay in seconds.
        requests: Method and headers of every request.
    """

    content: bytes
    etag: str | None = '"one"'
    ranges: bool = True
    cut: list[int | None] = field(default_factory=list)
    status: int = 200
    failures: int = 10**9
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    endless: bool = False
    trickle: float = 0.0
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(send_body=False)

    def do_GET(self) -> None:
        self.answer(send_body=True)

    def answer(self, send_body: bool) -> None:
        files: dict[str, Served] = self.server.files  # pyright: ignore[reportAttributeAccessIssue] (set by the fixture)
        served = files.get(self.path.partition("?")[0])
        if served is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")  # as the Hugging Face hub sends it
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        served.requests.append((self.command, {name.lower(): value for name, value in self.headers.items()}))
        if served.status != 200 and len(served.requests) <= served.failures:
            self.send_error(served.status)
            return
        if served.seconds:
            threading.Event().wait(served.seconds)
        start = self.range_start(served)
        body = served.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(served.content) - 1}/{len(served.content)}")
        if served.endless:
            self.close_connection = True
        elif "Content-Length" not in served.headers:
            self.send_header("Content-Length", str(len(body)))
        if served.etag is not None:
            self.send_header("ETag", served.etag)
        for name, value in served.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if send_body and (served.endless or served.trickle):
            self.send_slowly_or_forever(served)
        elif send_body:
            cut = served.cut[len(served.requests) - 1] if len(served.requests) <= len(served.cut) else None
            self.wfile.write(body[:cut])
            if cut is not None and cut < len(body):
                self.close_connection = True

    def send_slowly_or_forever(self, served: Served) -> None:
        """Sends until the client disconnects."""
        step = 1 if served.trickle else len(served.content)
        while True:
            for start in range(0, len(served.content), step):
                self.wfile.write(served.content[start : start + step])
                threading.Event().wait(served.trickle)
            if not served.endless:
                return

    def range_start(self, served: Served) -> int:
        asked = self.headers.get("Range", "")
        if not served.ranges or not asked.startswith("bytes="):
            return 0
        if self.headers.get("If-Range") not in (None, served.etag):
            return 0
        return int(asked.removeprefix("bytes=").partition("-")[0])

    def log_message(self, format: str, *args: object) -> None:
        """Keeps the tests' output clean."""


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignores clients that disconnect, as some tests do."""


class Server:
    """The server's URL and its files by path ("/a.pth")."""

    def __init__(self, http: ThreadingHTTPServer):
        self.files: dict[str, Served] = {}
        http.files = self.files  # pyright: ignore[reportAttributeAccessIssue] (read by the handler)
        self.address = f"http://127.0.0.1:{http.server_address[1]}"

    def serve(self, path: str, served: Served) -> str:
        """Serves a file at a path and returns its URL."""
        self.files[path] = served
        return self.address + path


@contextmanager
def running_server() -> Iterator[Server]:
    """Runs a server on a free local port."""
    http = _QuietServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield Server(http)
    http.shutdown()
    http.server_close()
    thread.join()
