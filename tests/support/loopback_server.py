"""Servers of the tests' own, on loopback: how they are found, started, waited for and stopped."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_START_S = 60


class LoopbackServer:
    """A program that serves until `close`; the test is skipped with its last words where it cannot start."""

    def __init__(
        self,
        name: str,
        command: list[str],
        folder: Path,
        answers: Callable[[], bool],
        *,
        environment: dict[str, str] | None = None,
        required_in_ci: bool = False,
    ) -> None:
        self._name = name
        self._required = required_in_ci and os.environ.get("CI", "").lower() in ("1", "true")
        self._log = folder / "server.log"
        with self._log.open("wb") as log:
            self._process: subprocess.Popen[Any] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, env=environment
            )
        deadline = time.monotonic() + _START_S
        while not answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                unavailable(f"{name} does not start: {self._last_words()}", required=self._required)
            time.sleep(0.05)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1][-300:] if lines else "it says nothing"


def unavailable(reason: str, *, required: bool) -> None:
    """Skips the test, or fails it where the server has to be there."""
    if required:
        pytest.fail(reason)
    pytest.skip(reason)


def is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
