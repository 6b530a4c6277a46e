"""An HTTP proxy before a server of the tests', which does to chosen requests what networks and overloaded stores do."""

from __future__ import annotations

import http.client
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(kw_only=True)
class Fault:
    """What happens to requests.

    Attributes:
        method: of the requests.
        query: what their targets have in them.
        times: how many of them.
        status: the answer, which the server never sees a request for; None to pass the request on.
        headers: of that answer.
        upload_nbytes: the connection is lost after so many bytes of the request's body.
        download_nbytes: the connection is lost after so many bytes of the answer's body.
        lose_answer: the server does what it is asked for, and the connection is lost instead of the answer.
        stall: nothing is lost: the connection stays open, and not a byte moves any more.
        delay_s: the server gets the request so many seconds late.
        hits: how many requests it has happened to.
    """

    method: str
    query: str = ""
    times: int = 1
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    upload_nbytes: int | None = None
    download_nbytes: int | None = None
    lose_answer: bool = False
    stall: bool = False
    delay_s: float = 0.0
    hits: int = 0


class FaultyProxy:
    """Passes requests on to a port of this machine, until `close`."""

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._released = threading.Event()
        self.requests: list[tuple[str, str]] = []
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def inject(self, method: str, query: str = "", **what: Any) -> Fault:
        """Lets something happen to the next requests that it fits."""
        fault = Fault(method=method, query=query, **what)
        with self._lock:
            self._faults.append(fault)
        return fault

    def count(self, method: str, query: str = "") -> int:
        """Requests so far."""
        with self._lock:
            return sum(one == method and query in target for one, target in self.requests)

    def close(self) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    def take(self, method: str, target: str) -> Fault | None:
        """What happens to this request."""
        with self._lock:
            self.requests.append((method, target))
            for fault in self._faults:
                if fault.method == method and fault.query in target and fault.hits < fault.times:
                    fault.hits += 1
                    return fault
        return None

    def hang(self, timeout_s: float | None = None) -> None:
        """Waits until the proxy is closed, or so long."""
        self._released.wait(timeout_s)

    def connect(self) -> http.client.HTTPConnection:
        """A new connection to the server."""
        return http.client.HTTPConnection("127.0.0.1", self._upstream, timeout=60)


class _LostError(Exception):
    """The connection is to be cut."""


class _Handler(BaseHTTPRequestHandler):
    owner: FaultyProxy
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        with suppress(OSError, http.client.HTTPException):  # clients go away, too
            super().handle_one_request()
            return
        self.close_connection = True

    def _pass_on(self) -> None:
        fault = self.owner.take(self.command, self.path)
        try:
            body = self._read_body(fault)
            if fault is not None and fault.status is not None:
                self._answer(fault.status, b"<Error><Code>Injected</Code></Error>", fault.headers)
                return
            if fault is not None and fault.delay_s:
                self.owner.hang(fault.delay_s)
            connection = self.owner.connect()
            try:
                self._exchange(connection, body, fault)
            finally:
                connection.close()
        except _LostError:
            if fault is not None and fault.stall:
                self.owner.hang()
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on  # noqa: N815  # the base class's names

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002  # the base class's name
        """Nothing is printed."""

    def _read_body(self, fault: Fault | None) -> bytes:
        nbytes = int(self.headers.get("Content-Length") or 0)
        if fault is not None and fault.upload_nbytes is not None:
            self.rfile.read(min(fault.upload_nbytes, nbytes))
            raise _LostError
        return self.rfile.read(nbytes)

    def _exchange(self, connection: http.client.HTTPConnection, body: bytes, fault: Fault | None) -> None:
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        data = b"" if self.command == "HEAD" else answer.read()
        if fault is not None and fault.lose_answer:
            raise _LostError
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        if fault is not None and fault.download_nbytes is not None:
            self.wfile.write(data[: fault.download_nbytes])
            raise _LostError
        self.wfile.write(data)

    def _answer(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
