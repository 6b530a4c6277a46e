"""Several ranks that save one state together, each in a process of its own with a gloo group.

They are forked where the state has been made: its pages are shared, so that four ranks need the memory of one.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from pathlib import Path

_PR_SET_PDEATHSIG = 1
_HOST = "127.0.0.1"


class ForkedRanks:
    """Processes that wait for paths to save to; they end with this one.

    Args:
        world_size: how many.
        save: what each of them does with a path.
    """

    def __init__(self, world_size: int, save: Callable[[Path], None]) -> None:
        self._connections: list[Connection] = []
        for rank in range(world_size):
            ours, theirs = multiprocessing.Pipe()
            if os.fork() == 0:
                _end_with_parent()
                try:
                    _serve(theirs, rank, world_size, save)
                finally:
                    os._exit(1)
            self._connections.append(ours)
            theirs.close()
        store = import_module("torch.distributed").TCPStore  # kept by no rank, as torchrun does it
        self._store = store(_HOST, 0, is_master=True, wait_for_workers=False)
        for connection in self._connections:
            connection.send(self._store.port)
        self._wait()

    def save(self, path: Path) -> None:
        """Returns when all ranks have saved.

        Raises:
            RuntimeError: one could not, or has ended.
        """
        for connection in self._connections:
            connection.send(path)
        self._wait()

    def _wait(self) -> None:
        for rank, connection in enumerate(self._connections):
            try:
                failed = connection.recv()
            except EOFError:
                failed = "it has ended"
            if failed:
                raise RuntimeError(f"rank {rank}: {failed}")


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _serve(connection: Connection, rank: int, world_size: int, save: Callable[[Path], None]) -> None:
    """One rank, until the other end closes."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch, dist = import_module("torch"), import_module("torch.distributed")
    torch.set_num_threads(1)  # the threads of OpenMP have stayed in the parent
    store = dist.TCPStore(_HOST, connection.recv(), is_master=False, wait_for_workers=False)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size)
    connection.send("")
    while True:
        try:
            path = connection.recv()
        except EOFError:
            return
        try:
            save(path)
            failed = ""
        except Exception as error:  # noqa: BLE001 - whatever it is, is the reason why there is no figure
            failed = f"{type(error).__name__}: {error}"
        connection.send(failed)
