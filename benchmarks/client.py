"""The side of the benchmark that starts a contender's process and talks to it."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

_ROOT = Path(__file__).resolve().parent.parent
_BUILD_TIMEOUT_S = 600.0
_TRAINING_TIMEOUT_S = 120.0
_SEEN_NCHARS = 300


class ContenderError(Exception):
    """A contender cannot go on; the message is the reason that the results give."""


class Worker(AbstractContextManager["Worker"]):
    """A fresh process with one contender in it. After a `ContenderError` it is gone.

    Args:
        contender: Name of the contender.
        limit_s: What takes longer than this is stopped.
    """

    def __init__(self, contender: str, *, limit_s: float) -> None:
        self._limit_s = limit_s
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        self._connection, theirs = multiprocessing.Pipe()
        path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            env=os.environ | {"PYTHONPATH": path},
        )
        theirs.close()
        opened = self._call("open", timeout_s=_BUILD_TIMEOUT_S, contender=contender)
        self.version: str = opened["version"]
        self.import_s: float = opened["seconds"]

    def build(self, state: str, scale: float, device: str) -> dict[str, Any]:
        """Makes the state on `device`; returns its `nbytes` and `n_tensors`."""
        return self._call("build", timeout_s=_BUILD_TIMEOUT_S, state=state, scale=scale, device=device)

    def build_training(self, scale: float, device: str) -> dict[str, Any]:
        """Makes the training program whose state is saved; returns the same."""
        return self._call("build_training", timeout_s=_BUILD_TIMEOUT_S, scale=scale, device=device)

    def save(self, path: Path) -> dict[str, Any]:
        """Saves durably; returns `seconds`, `cpu_s`, `fsync_s`, `peak_nbytes`, `stored_nbytes` and `rank_nbytes`."""
        return self._call("save", timeout_s=self._limit_s, path=path)

    def load(self, path: Path) -> dict[str, Any]:
        """Loads from `path`; returns `seconds`, `cpu_s`, `peak_nbytes` and `equal`."""
        return self._call("load", timeout_s=self._limit_s, path=path)

    def stall(self, path: Path, *, overwrite: bool = False) -> dict[str, Any]:
        """Saves to `path` in the background; returns `seconds`, of the call, and `durable_s`."""
        return self._call("stall", timeout_s=self._limit_s, path=path, overwrite=overwrite)

    def train(self, path: Path) -> dict[str, Any]:
        """Trains and saves to `path` meanwhile; returns the `trace`, and whether what came back is `equal`."""
        return self._call("train", timeout_s=_TRAINING_TIMEOUT_S + self._limit_s, path=path)

    def close(self) -> None:
        """Ends the process."""
        self._connection.close()
        self._process.kill()
        self._process.wait()
        self._output.close()

    def _call(self, command: str, *, timeout_s: float, **arguments: object) -> dict[str, Any]:
        reply: dict[str, Any] | str = f"{command}: stopped, no end after {timeout_s:g} s"
        try:
            self._connection.send((command, arguments))
            if self._connection.poll(timeout_s):
                reply = self._connection.recv()
        except (EOFError, OSError):
            reply = f"{command}: the process ended with code {self._process.wait()}; {self._last_words()}"
        if isinstance(reply, str):
            self.close()
            raise ContenderError(reply[:_SEEN_NCHARS])
        return reply

    def _last_words(self) -> str:
        self._output.seek(0)
        lines = self._output.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
        return lines[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
