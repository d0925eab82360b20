"""A local server of files that misbehaves on demand, and counts what it is asked."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

FAULTS = (
    "drop",  # closes the connection halfway through the body
    "reset",  # closes it before any answer
    "truncate",  # announces and sends half of the body
    "corrupt",  # flips one byte in the middle
    "whole",  # ignores Range
    "no length",  # announces no length and closes at the end
    "no length, drop",  # the same, halfway
    "429",
    "503",
    "500",
)


@dataclass
class Request:
    method: str
    path: str
    range: str | None
    agent: str
    status: int = 0
    sent: int = 0


@dataclass
class Server:
    """Serves `files` (bytes, or a file on disk) on 127.0.0.1; `with` starts and stops it.

    Attributes:
        files: address path without the leading slash, and content.
        faults: for a path, what goes wrong with its next GETs, one fault each (see `FAULTS`; None is none).
        always: for a path, or `*`, a fault of all its GETs.
        changes: for a path, what its content becomes once it has been asked for so many times.
        retry_after: sent along with 429 and 503 if not None.
        log: the requests, oldest first.
        most_busy: so many of them at a time.
    """

    files: dict[str, bytes | Path]
    faults: dict[str, list[str | None]] = field(default_factory=dict)
    always: dict[str, str] = field(default_factory=dict)
    changes: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    retry_after: str | None = None
    etags: bool = True
    dates: bool = False
    pause_s: float = 0.0
    log: list[Request] = field(default_factory=list)
    busy: int = 0
    most_busy: int = 0

    def __enter__(self) -> Server:
        self.lock, self.seen = threading.Lock(), defaultdict(int)
        owner = self

        class Handler(_Handler):
            server_owner = owner

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()

    def gets(self, part: str = "") -> Counter[str]:
        """How often each path that contains `part` was asked for, HEAD not counted."""
        return Counter(r.path for r in self.log if r.method == "GET" and part in r.path)

    def sent(self, part: str = "") -> int:
        """Bytes of bodies sent for paths that contain `part`."""
        return sum(r.sent for r in self.log if part in r.path)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and a small body in one packet
    disable_nagle_algorithm = True
    timeout = 5
    server_owner: Server

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def do_HEAD(self) -> None:  # noqa: N802
        self._counted(None)

    def do_GET(self) -> None:  # noqa: N802
        owner = self.server_owner
        path = self._path()
        with owner.lock:
            owner.seen[path] += 1
            if path in owner.changes and owner.seen[path] > owner.changes[path][0]:
                owner.files[path] = owner.changes.pop(path)[1]
            queue = owner.faults.get(path, [])
            fault = queue.pop(0) if queue else owner.always.get(path, owner.always.get("*"))
        self._counted(fault)

    def _counted(self, fault: str | None) -> None:
        owner = self.server_owner
        with owner.lock:
            owner.busy += 1
            owner.most_busy = max(owner.most_busy, owner.busy)
        try:
            self._answer(fault)
        finally:
            with owner.lock:
                owner.busy -= 1

    def _path(self) -> str:
        return unquote(urlsplit(self.path).path).lstrip("/")

    def _answer(self, fault: str | None) -> None:
        owner, path = self.server_owner, self._path()
        request = Request(self.command, path, self.headers.get("Range"), self.headers.get("User-Agent", ""))
        owner.log.append(request)
        if owner.pause_s:
            time.sleep(owner.pause_s)
        if fault == "reset":
            self.close_connection = True
            return
        if path in owner.redirects:
            self._head(request, 302, {"Location": owner.redirects[path], "Content-Length": "0"})
            return
        content = owner.files.get(path)
        if content is None or (fault and fault.isdigit()):
            headers = {"Content-Length": "5"}
            if fault in ("429", "503") and owner.retry_after is not None:
                headers["Retry-After"] = owner.retry_after
            self._head(request, 404 if content is None else int(fault), headers)
            if self.command == "GET":
                self.wfile.write(b"oops\n")
            return

        size = content.stat().st_size if isinstance(content, Path) else len(content)
        tag = hashlib.sha256(str(content).encode() if isinstance(content, Path) else content).hexdigest()[:16]
        headers = {"ETag": f'"{tag}"'} if owner.etags else {}
        if owner.dates:
            headers["Last-Modified"] = formatdate(int(tag[:8], 16), usegmt=True)
        start, stop, status = 0, size, 200
        asked = self.headers.get("Range")
        condition = self.headers.get("If-Range")
        if asked and fault != "whole" and condition in (None, headers.get("ETag"), headers.get("Last-Modified")):
            first, last = asked.removeprefix("bytes=").split("-")
            start, stop, status = int(first or 0), min(int(last) + 1 if last else size, size), 206
            if not first:  # so many of the last bytes
                start, stop = max(0, size - int(last)), size
            if start >= size:
                self._head(request, 416, headers | {"Content-Range": f"bytes */{size}", "Content-Length": "0"})
                return
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        body = self._read(content, start, stop) if self.command == "GET" else b""
        if fault == "corrupt":
            at = len(body) // 2
            body = body[:at] + bytes([body[at] ^ 0x5A]) + body[at + 1 :]
        if fault == "truncate":
            body = body[: len(body) // 2]
        if fault in ("no length", "no length, drop") or "no length" in owner.always.values():
            headers["Connection"] = "close"
            self.close_connection = True
        else:
            headers["Content-Length"] = str(len(body) if self.command == "GET" else size)
        if fault in ("drop", "no length, drop"):
            body = body[: len(body) // 2]
            self.close_connection = True
        self._head(request, status, headers)
        request.sent = len(body)
        self.wfile.write(body)

    def _head(self, request: Request, status: int, headers: dict[str, str]) -> None:
        request.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    @staticmethod
    def _read(content: bytes | Path, start: int, stop: int) -> bytes:
        if isinstance(content, bytes):
            return content[start:stop]
        with open(content, "rb") as file:
            file.seek(start)
            return file.read(stop - start)
