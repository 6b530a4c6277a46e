"""A redis-server of the tests' own, on loopback, with nothing of it on disk unless a test wants that."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis

from sucrose.state.remote import RemoteCheckpoints

if TYPE_CHECKING:
    from pathlib import Path

EPHEMERAL = ("--save", "", "--appendonly", "no")


def require_redis_server() -> str:
    """Path of the program; the test is skipped where there is none, but not in CI."""
    program = shutil.which("redis-server")
    if program is None:
        message = "redis-server is not installed: apt-get install redis-server"
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(message)
        pytest.skip(message)
    return program


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class RedisServer:
    """One server; it may be stopped and started again with what is in its folder."""

    def __init__(self, folder: Path, *options: str, password: str | None = None) -> None:
        self._program = require_redis_server()
        self._folder = folder
        self._options = [*(options or EPHEMERAL), *(["--requirepass", password] if password else [])]
        self.port = free_port()
        self.client = redis.Redis(port=self.port, password=password, socket_timeout=60)
        self.start()

    def start(self) -> None:
        command = [self._program, "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self._folder)]
        self._process = subprocess.Popen([*command, *self._options], stdout=subprocess.DEVNULL)
        try:
            wait_until(self._answers)
        except BaseException:
            self.kill()
            raise

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False

    def send_signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self.client.connection_pool.disconnect()

    def close(self) -> None:
        self.kill()
        self.client.close()

    def checkpoints(self, job_id: str = "job", **options: Any) -> RemoteCheckpoints:
        return RemoteCheckpoints(job_id, "127.0.0.1", self.port, **{"timeout_s": 60.0, **options})

    def generations(self, job: str = "job") -> list[int]:
        return [int(number) for number in self.client.zrange(f"{job}:generations", 0, -1)]

    def lasting_chunks(self, job: str = "job") -> list[int]:
        """Generations whose chunks the server does not remove by itself."""
        keys = [key for key in self.client.keys(f"{job}:chunks:*") if self.client.ttl(key) == -1]
        return sorted(int(key.rpartition(b":")[2]) for key in keys)


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.01)
