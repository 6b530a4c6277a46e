"""Python programs that begin with torch imported, each in a process of its own.

Importing torch takes seconds, and most tests of a process's end have nothing to do with it. A server
imports it once, and nothing of sucrose; for each program it forks, and the child runs the program as
its main module, so that it ends as any program does: threads, exit handlers, status and all.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SERVER = """
import gc, json, os, sys
import torch
gc.collect()
gc.freeze()  # a child's collections, of which its end has several, touch nothing of torch's

def serve():
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            return request
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    os._exit(0)

request = serve()
for fd, path in ((0, os.devnull), (1, request["stdout"]), (2, request["stderr"])):
    os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), fd)
sys.stdin = open(0)
os.environ.clear()
os.environ.update(request["environment"])
sys.argv[1:] = request["arguments"]
program = compile(request["program"], "<program>", "exec")
del serve, request, fd, path
exec(program)
"""


class WarmPython:
    """Runs one program at a time."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[str] | None = None

    def run(
        self, program: str, arguments: Sequence[str], environment: Mapping[str, str], *, timeout_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Runs `program` as ``python -c`` would.

        Raises:
            subprocess.TimeoutExpired: it took longer than `timeout_s`, and was killed.
        """
        with tempfile.TemporaryDirectory() as folder:
            streams = {name: f"{folder}/{name}" for name in ("stdout", "stderr")}
            request = {"program": program, "arguments": list(arguments), "environment": dict(environment), **streams}
            status = self._ask(json.dumps(request), timeout_s)
            stdout, stderr = (Path(path).read_text(encoding="utf-8") for path in streams.values())
        return subprocess.CompletedProcess(list(arguments), status, stdout, stderr)

    def close(self) -> None:
        """Ends the server."""
        if self._server is not None:
            self._server.communicate()
            self._server = None

    def _ask(self, request: str, timeout_s: float) -> int:
        if self._server is None:
            self._server = subprocess.Popen(
                [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _SERVER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                bufsize=1,
            )
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(request + "\n")
        child = int(self._server.stdout.readline())
        is_over, _, _ = select.select([self._server.stdout], [], [], timeout_s)
        if not is_over:
            os.kill(child, signal.SIGKILL)
        status = int(self._server.stdout.readline())
        if not is_over:
            raise subprocess.TimeoutExpired("a program", timeout_s)
        return status
