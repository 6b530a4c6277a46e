"""TensorBoard itself on a loopback port, asked over its HTTP API."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

Curves = dict[str, dict[str, list[tuple[int, float]]]]
"""Steps and values, by run and tag."""


class TensorBoardServer:
    """A running server.

    Args:
        logdir: what it shows.
        load_fast: whether a process of its own reads the files, which is the default where there is one.
    """

    def __init__(self, logdir: Path, *, load_fast: bool) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self._url = f"http://127.0.0.1:{port}"
        mode = "true" if load_fast else "false"
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tensorboard.main"),
                *("--logdir", str(logdir), "--host", "127.0.0.1", "--port", str(port)),
                *("--load_fast", mode, "--reload_interval", "0.2", "--window_title", "test"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )

    def ask(self, path: str, body: Any = None, **query: str) -> Any:
        """The JSON of an answer.

        Raises:
            TimeoutError: the server does not come up.
        """
        url = f"{self._url}{path}?{urllib.parse.urlencode(query)}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                if error.code < 500 or time.monotonic() > deadline:
                    raise
            except (urllib.error.URLError, ConnectionError):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no answer from {url}") from None
            time.sleep(0.1)

    def curves(self) -> Curves:
        """All scalars of all runs that have some."""
        tags = self.ask("/data/plugin/scalars/tags")
        return {
            run: {tag: self._points(run, tag) for tag in of_run if not tag.startswith("_hparams_")}
            for run, of_run in tags.items()
        }

    def wait_for_curves(self, expected: Curves, timeout_s: float = 30) -> Curves:
        """The curves once they are as expected, or what they are when the time is over."""
        deadline = time.monotonic() + timeout_s
        while (curves := self.curves()) != expected and time.monotonic() < deadline:
            time.sleep(0.1)
        return curves

    def _points(self, run: str, tag: str) -> list[tuple[int, float]]:
        try:
            points = self.ask("/data/plugin/scalars/scalars", run=run, tag=tag)
        except urllib.error.HTTPError:  # the server has just learnt of the tag
            return []
        return [(step, value) for _, step, value in points]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()
