"""`sucrose` on checkpoints: states that have a bit of everything, and the command with torch at hand."""

from __future__ import annotations

import json
import subprocess
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from command_line import CommandLine

from sucrose import Snapshot, StateDict

DTYPES = sorted(
    {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex128, torch.complex64,
     torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64,
     torch.bool, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz},
    key=str,
)  # fmt: skip


def random_tensor(dtype: torch.dtype, *shape: int, seed: int = 0) -> torch.Tensor:
    """Any bits, NaN of all kinds among them; a bool is 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    nbytes = torch.empty(shape, dtype=dtype).nbytes
    data = torch.randint(0, 2 if dtype is torch.bool else 256, (nbytes,), dtype=torch.uint8, generator=generator)
    return data.view(dtype).view(shape)


def weights() -> OrderedDict[str, Any]:
    """What a module's state dict may be: flat, every dtype, tied, transposed, empty, a single number."""
    state: OrderedDict[str, Any] = OrderedDict()
    for number, dtype in enumerate(DTYPES):
        state[f"layer.{str(dtype).removeprefix('torch.')}"] = random_tensor(dtype, 3, 5, seed=number)
    state["transposed"] = torch.arange(12.0).view(3, 4).t()
    state["head.weight"] = torch.arange(6.0).view(2, 3)
    state["embedding.weight"] = state["head.weight"]
    state["empty"] = torch.empty(0, 3)
    state["scalar"] = torch.tensor(3.5)
    return state


def nested_state() -> dict[str, Any]:
    """Two dicts, so that each is a stateful; strange names, lists, primitives and objects."""
    return {
        "model": weights(),
        "optim": {
            "state": {0: {"step": torch.tensor(1.0)}, 1: {"step": torch.tensor(2.0)}},
            "groups": [{"lr": 0.1, "betas": (0.9, 0.999), "params": [0, 1], "foreach": None}],
            "a/b": torch.ones(2),
            "[red]重み\x1b[31m%": torch.zeros(1),
            "nothing": {},
            "big": 1 << 70,
            "blob": b"\x00\xff",
        },
    }


def take(path: Path, state: dict[str, Any], **options: Any) -> Path:
    """A snapshot in which each dict of `state` is a stateful, and the path of it."""
    Snapshot.take(path, {key: _Holding(value) for key, value in state.items()}, **options)
    return path


def contents(path: Path) -> dict[str, Any]:
    """All statefuls of a snapshot."""
    snapshot = Snapshot(path)
    keys = {name.split("/")[1] for name in snapshot.get_manifest()}
    return {key: snapshot.get_state_dict_for_key(key) for key in sorted(keys)}


def damage(file: Path, offset: int) -> None:
    """Flips all bits of one byte."""
    data = bytearray(file.read_bytes())
    data[offset] ^= 0xFF
    file.write_bytes(data)


_WITH_TORCH = """
import torch.distributed.checkpoint
import sucrose.interchange.conversion, sucrose.interchange.dcp_sink, sucrose.interchange.dcp_source
import sucrose.interchange.differences, sucrose.interchange.export, sucrose.interchange.safetensors_sink
import sucrose.interchange.snapshot_sink, sucrose.interchange.snapshot_source, sucrose.interchange.torch_source
"""


class Sucrose:
    """The command, each time in a process of its own.

    Args:
        with_torch: whether it may import torch.
    """

    def __init__(self, *, with_torch: bool) -> None:
        self._command_line = CommandLine(_WITH_TORCH if with_torch else "", with_torch=with_torch)

    def run(self, *arguments: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
        """What it has answered, after looking at its status. Where it is not 1 or 2 stderr is empty."""
        done = self._command_line.run(*arguments)
        assert done.returncode == status, f"{arguments} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        if status == 0:
            assert done.stderr == ""
        assert "\x1b" not in done.stdout + done.stderr
        return done

    def lines(self, *arguments: str | Path, status: int = 0) -> list[str]:
        """The lines on stdout."""
        return self.run(*arguments, status=status).stdout.splitlines()

    def json(self, *arguments: str | Path, status: int = 0) -> dict[str, Any]:
        """The object that `--json` prints."""
        content: dict[str, Any] = json.loads(self.run(*arguments, "--json", status=status).stdout)
        return content

    def error(self, *arguments: str | Path, status: int = 1) -> str:
        """The one line that it fails with."""
        done = self.run(*arguments, status=status)
        [line] = done.stderr.splitlines()
        assert done.stdout == ""
        assert line.startswith("sucrose: ")
        return line

    def close(self) -> None:
        """Ends the process that commands are forked from."""
        self._command_line.close()


class _Holding(StateDict):
    """A stateful with a state dict of any type."""

    def __init__(self, state: Any) -> None:
        super().__init__()
        self._state = state

    def state_dict(self) -> Any:
        return self._state
