"""Python programs that begin with torch imported, each in a process of its own.

Importing torch takes seconds, and most tests of a process's end have nothing to do with it. A server
imports it once, and nothing of sucrose unless asked to; for each program it forks, and the child runs the program as
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
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SERVER = """
import faulthandler, gc, json, os, sys
faulthandler.enable()
exec(sys.argv.pop(1))
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
    """Runs one program at a time.

    Args:
        preload: what the server runs once, before any program.
    """

    def __init__(self, preload: str = "import torch") -> None:
        self._preload = preload
        self._server: subprocess.Popen[str] | None = None

    def run(
        self, program: str, arguments: Sequence[str], environment: Mapping[str, str], *, timeout_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Runs `program` as ``python -c`` would.

        Raises:
            subprocess.TimeoutExpired: it took longer than `timeout_s`, and was killed.
        """
        return self.start(program, arguments, environment).wait(timeout_s)

    def start(self, program: str, arguments: Sequence[str], environment: Mapping[str, str]) -> RunningProgram:
        """Begins to run `program`; it has to be waited for before the next one."""
        if self._server is None:
            self._server = subprocess.Popen(
                [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _SERVER, self._preload],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                bufsize=1,
            )
        return RunningProgram(self._server, program, arguments, environment)

    def close(self) -> None:
        """Ends the server."""
        if self._server is not None:
            self._server.communicate()
            self._server = None


class RunningProgram:
    """A program that `WarmPython` has begun to run.

    Attributes:
        pid: its process.
    """

    def __init__(
        self, server: subprocess.Popen[str], program: str, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        assert server.stdin is not None
        assert server.stdout is not None
        self._answers = server.stdout
        self._folder = tempfile.TemporaryDirectory()
        self._arguments = list(arguments)
        self._streams = {name: Path(self._folder.name, name) for name in ("stdout", "stderr")}
        for path in self._streams.values():
            path.touch()
        streams = {name: str(path) for name, path in self._streams.items()}
        request = {"program": program, "arguments": self._arguments, "environment": dict(environment), **streams}
        server.stdin.write(json.dumps(request) + "\n")
        self.pid = _read_number(self._answers)

    def send(self, number: int) -> None:
        """Sends a signal."""
        os.kill(self.pid, number)

    def wait_for(self, text: str, timeout_s: float = 120) -> None:
        """Blocks until the program has printed `text`; it has to flush that.

        Raises:
            TimeoutError: it has not.
            EOFError: it has ended without.
        """
        deadline = time.monotonic() + timeout_s
        is_over = False
        while text not in self._streams["stdout"].read_text(encoding="utf-8"):
            if is_over:
                raise EOFError(f"never printed: {text}; stderr: {self._streams['stderr'].read_text(encoding='utf-8')}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"not printed within {timeout_s} s: {text}")
            is_over = bool(select.select([self._answers], [], [], 0.001)[0])

    def wait_until_asleep(self, timeout_s: float = 120) -> None:
        """Blocks until its main thread waits: a signal that comes just before a sleep is not handled before its end.

        Raises:
            TimeoutError: it goes on.
        """
        deadline = time.monotonic() + timeout_s
        while Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2][0] != "S":
            if time.monotonic() > deadline:
                raise TimeoutError(f"not asleep within {timeout_s} s")
            time.sleep(0.001)

    def wait(self, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Blocks until the program has ended.

        Raises:
            subprocess.TimeoutExpired: it took longer than `timeout_s`, and was killed; what it said is printed.
        """
        is_over, _, _ = select.select([self._answers], [], [], timeout_s)
        if not is_over:
            os.kill(self.pid, signal.SIGABRT)
        status = _read_number(self._answers)
        stdout, stderr = (path.read_text(encoding="utf-8") for path in self._streams.values())
        self._folder.cleanup()
        if not is_over:
            print(stdout, stderr, sep="\n", file=sys.stderr)
            raise subprocess.TimeoutExpired("a program", timeout_s, stdout, stderr)
        return subprocess.CompletedProcess(self._arguments, status, stdout, stderr)


def _read_number(answers: IO[str]) -> int:
    """The next answer, and nothing of the one behind it: what a buffer has taken, `select` does not see."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(answers.fileno(), 1)
        if not byte:
            raise EOFError("the server has ended")
        line += byte
    return int(line)
