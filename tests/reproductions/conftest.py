"""A real HTTP server on loopback whose behaviour each test chooses."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest


@dataclass
class Site:
    """Files by path. ``script``: per path a list of behaviours used up one per request, then the last one stays.

    Behaviours: good, truncated, altered, slow, busy, broken, html, missing, no-ranges, longer, refuse-range.
    """

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    script: dict[str, list[str]] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)


def make_handler(site: Site) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words: object) -> None:
            pass

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            site.requests.append((self.path, wanted))
            plan = site.script.get(self.path, ["good"])
            how = plan.pop(0) if len(plan) > 1 else plan[0]
            self.close_connection = True
            body = site.files.get(self.path)
            if how == "missing" or body is None:
                return self.send_error(404)
            if how == "busy":
                self.send_response(429)
                self.send_header("Retry-After", "7")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            if how == "broken":
                return self.send_error(503)
            if how == "html":
                return self.answer(200, b"<!DOCTYPE html><html>please log in</html>", "text/html; charset=utf-8")
            if how == "altered":
                body = bytes([body[0] ^ 1]) + body[1:]
            if how == "longer":
                body += b"more"
            if wanted and how == "refuse-range":
                return self.send_error(416)
            start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted and how != "no-ranges" else 0
            status = 206 if start else 200
            if start >= len(body) > 0 and start:
                return self.send_error(416)
            if how == "truncated":
                return self.answer(status, body[start:], start=start, whole=len(body), send=(len(body) - start) // 2)
            if how == "slow":
                self.answer(status, body[start:], start=start, whole=len(body), send=1000)
                self.wfile.flush()
                return time.sleep(1.5)
            self.answer(status, body[start:], start=start, whole=len(body))

        def answer(self, status, body, kind="application/octet-stream", start=0, whole=0, send=None) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            for name, value in site.headers.items():
                self.send_header(name, value)
            if status == 206:
                self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
            self.end_headers()
            self.wfile.write(body if send is None else body[:send])

    return Handler


@pytest.fixture
def site() -> Iterator[Site]:
    served = Site("")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), make_handler(served))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}"
    yield served
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
