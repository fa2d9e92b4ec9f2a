"""A file server on the loopback address that misbehaves as told, for tests of downloads.

Files called ``/ORG/REPO/resolve/main/NAME`` make it a Hugging Face hub.
"""

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """What the server answers, and what it was asked.

    Attributes:
        files: Path to content.
        cut_after: Bytes after which each answer of the list's turn is cut; then answers are whole.
        statuses: Error statuses to answer with first, one a request.
        promised: Bytes that each answer's Content-Length says more than the answer has.
        misplaced: Bytes that the answer to a range begins too late by.
        redirects: Path to the address that is answered instead of a file.
        tagged: Whether answers have an ETag, by which a changed file is known.
        ranges: Range header of each request so far, "" where it had none.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    knows_ranges: bool = True
    promised: int = 0
    misplaced: int = 0
    redirects: dict[str, str] = field(default_factory=dict)
    tagged: bool = True
    ranges: list[str] = field(default_factory=list)


@contextlib.contextmanager
def serve_files(**options: object) -> Iterator[FileServer]:
    """Run a server until the block ends."""
    told = FileServer(**options)  # type: ignore[arg-type]

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            content = told.files.get(self.path)
            self._begin(200 if content is not None else 404, content or b"")

        def _begin(self, status: int, content: bytes, start: int = 0) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content) + told.promised))
            if status == 206:
                end = start + len(content)
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
            # What the hub's client asks for.
            self.send_header("X-Repo-Commit", "0" * 40)
            if told.tagged:
                self.send_header("ETag", f'"{hashlib.sha256(told.files.get(self.path, b"")).hexdigest()}"')
            if status == 404:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()

        def do_GET(self) -> None:
            asked = self.headers.get("Range") or ""
            told.ranges.append(asked)
            if self.path in told.redirects:
                self.send_response(302)
                self.send_header("Location", told.redirects[self.path])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = told.files.get(self.path)
            status = told.statuses.pop(0) if told.statuses else 200 if content is not None else 404
            if status != 200 or content is None:
                self.send_error(status)
                return
            if asked and told.knows_ranges:
                start = int(asked.removeprefix("bytes=").partition("-")[0]) + told.misplaced
                if start >= len(content):
                    self.send_error(416)
                    return
                self._begin(206, content[start:], start)
                content = content[start:]
            else:
                self._begin(status, content)
            self.wfile.write(content[: told.cut_after.pop(0)] if told.cut_after else content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
