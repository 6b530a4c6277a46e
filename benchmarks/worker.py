"""The process of one contender: ``python -m benchmarks.worker FD``, started by `client.Worker`.

Commands arrive and results leave as pickles over the connected pair of file descriptor FD. Each
contender has a process of its own, so that two of them share neither allocator, nor import names,
nor peak of memory.
"""

from __future__ import annotations

import gc
import importlib
import sys
import time
from importlib.machinery import PathFinder
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import loop, memory
from benchmarks.contenders import BY_NAME
from benchmarks.files import fsync_tree, tree_nbytes
from benchmarks.machine import version
from benchmarks.peers import PEERS_DIR

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.contenders import Contender
    from benchmarks.states import State
    from benchmarks.training import Training


class Bench:
    """One contender and one state; its public methods are the commands."""

    def __init__(self) -> None:
        self._contender: Contender
        self._states: Any = None
        self._devices: Any = None
        self._training: Training
        self._device = "cpu"
        self._state: State = {}
        self._fingerprint = ""

    def open(self, contender: str) -> dict[str, Any]:
        """Imports torch, then the contender: what that adds is a result of its own."""
        kind = BY_NAME[contender]
        if kind.peer and (folder := PEERS_DIR / kind.peer).is_dir():
            _prefer(folder)
        importlib.import_module("torch")
        before = time.perf_counter()
        self._contender = kind()
        import_s = time.perf_counter() - before
        self._states = importlib.import_module("benchmarks.states")
        self._devices = importlib.import_module("benchmarks.device")
        return {"seconds": import_s, "version": version(kind.distribution)}

    def build(self, state: str, scale: float, device: str) -> dict[str, Any]:
        """Makes the state that is saved and restored from now on."""
        self._device = device
        self._state = self._states.build(state, scale, device)
        self._fingerprint = self._states.fingerprint(self._state)
        self._contender.prepare(self._state)
        return self._size()

    def build_training(self, scale: float, device: str) -> dict[str, Any]:
        """Makes the training program whose state is saved from now on."""
        self._device = device
        self._training = importlib.import_module("benchmarks.training").Training(device, scale)
        self._state = self._training.state()
        return self._size()

    def save(self, path: Path) -> dict[str, Any]:
        """Saves durably: the time and the peak include the fsync, whoever does it."""
        gc.collect()
        self._devices.drain(self._device)
        resident = memory.reset_peak()
        cpu_before, before = time.process_time(), time.perf_counter()
        self._contender.save(self._state, path)
        self._devices.drain(self._device)
        saved = time.perf_counter()
        if not self._contender.durable:
            fsync_tree(path)
        after = time.perf_counter()
        return {
            "seconds": after - before,
            "cpu_s": time.process_time() - cpu_before,
            "fsync_s": after - saved,
            "peak_nbytes": memory.peak_nbytes() - resident,
            "stored_nbytes": tree_nbytes(path),
            "rank_nbytes": self._contender.rank_nbytes(path),
        }

    def load(self, path: Path) -> dict[str, Any]:
        """Loads over zeroed tensors and compares what came back, bit by bit."""
        self._zero()
        gc.collect()
        self._devices.drain(self._device)
        resident = memory.reset_peak()
        cpu_before, before = time.process_time(), time.perf_counter()
        loaded = self._contender.load(self._state, path)
        self._devices.drain(self._device)
        after, cpu_s = time.perf_counter(), time.process_time() - cpu_before
        peak = memory.peak_nbytes() - resident
        equal = self._states.fingerprint(loaded) == self._fingerprint
        return {"seconds": after - before, "cpu_s": cpu_s, "peak_nbytes": peak, "equal": equal}

    def stall(self, path: Path, *, overwrite: bool) -> dict[str, Any]:
        """Saves in the background and waits for the durable end; `overwrite` changes everything in between."""
        gc.collect()
        self._devices.drain(self._device)
        before = time.perf_counter()
        complete = self._contender.start(self._state, path)
        self._devices.settle(self._device)
        returned = time.perf_counter()
        if overwrite:
            self._zero()
        self._complete(complete, path)
        return {"seconds": returned - before, "durable_s": time.perf_counter() - before}

    def train(self, path: Path) -> dict[str, Any]:
        """Trains with one save on the way, loads it, and compares it with the state at the call."""
        expected: State = {}

        def remember() -> None:
            expected.update((name, tensor.clone()) for name, tensor in self._state.items())
            self._devices.drain(self._device)

        def step() -> None:
            self._training.step()
            self._devices.settle(self._device)

        def start() -> Callable[[], None]:
            complete = self._contender.start(self._state, path)
            self._devices.settle(self._device)
            return lambda: self._complete(complete, path)

        gc.collect()
        self._devices.drain(self._device)
        trace = loop.run_loop(step, remember, start)
        loaded = self._contender.load(self._state, path)
        equal = self._states.is_equal(loaded, expected)
        del loaded
        expected.clear()
        self._devices.release(self._device)
        return {"trace": trace, "equal": equal}

    def _complete(self, complete: Callable[[], object], path: Path) -> None:
        complete()
        if not self._contender.durable:
            fsync_tree(path)

    def _zero(self) -> None:
        for tensor in self._state.values():
            tensor.zero_()

    def _size(self) -> dict[str, Any]:
        return {"nbytes": self._states.nbytes(self._state), "n_tensors": len(self._state)}


def _prefer(folder: Path) -> None:
    """Imports from `folder` before anything else, editable installations of the same name included."""
    sys.path.insert(0, str(folder))
    sys.meta_path.insert(0, PathFinder)


def main() -> None:
    """Serves commands until the other end closes."""
    connection = Connection(int(sys.argv[1]))
    bench = Bench()
    while True:
        try:
            command, arguments = connection.recv()
        except EOFError:
            return
        run: Callable[..., dict[str, Any]] = getattr(bench, command)
        try:
            reply: dict[str, Any] | str = run(**arguments)
        except Exception as error:  # noqa: BLE001 - whatever a peer raises is the reason why it has no figure
            reply = f"{command}: {type(error).__name__}: {error}"
        connection.send(reply)


if __name__ == "__main__":
    main()
