"""``python -m benchmarks`` whose contenders' processes are forked from one that has torch imported.

What a contender measures is the same; only the seconds are saved in which each process imports torch for itself.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from warm_python import WarmPython

if TYPE_CHECKING:
    import subprocess

_ROOT = Path(__file__).resolve().parents[2]

_PROGRAM = f"""
import os, signal, subprocess, sys, types
os.chdir({str(_ROOT)!r})
sys.path.insert(0, {str(_ROOT)!r})
from benchmarks import __main__, client, worker

class ForkedWorker:
    "What the benchmark uses of `subprocess.Popen`."

    def __init__(self, command, *, pass_fds, stdin, stdout, **others):
        assert command[:3] == [sys.executable, "-m", "benchmarks.worker"], command
        self.pid = os.fork()
        if self.pid == 0:
            os.dup2(stdout.fileno(), 1)
            os.dup2(stdout.fileno(), 2)
            [kept] = pass_fds
            os.closerange(3, kept)
            os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))
            sys.argv = command[2:]
            try:
                worker.main()
            finally:
                os._exit(0)

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)

    def wait(self):
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

client.subprocess = types.SimpleNamespace(Popen=ForkedWorker, DEVNULL=subprocess.DEVNULL)
sys.exit(__main__.main())
"""


class WarmBenchmarks:
    """Runs the benchmarks, one command line at a time."""

    def __init__(self) -> None:
        self._python = WarmPython("import torch, torch._dynamo, torch.distributed")

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """As ``python -m benchmarks`` does, in the repository's root."""
        return self._python.run(_PROGRAM, [*map(str, arguments)], os.environ, timeout_s=600)

    def close(self) -> None:
        """Ends the process that they are forked from."""
        self._python.close()
