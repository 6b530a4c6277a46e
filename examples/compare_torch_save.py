"""Measures saving and loading a training state beside `torch.save` and `torch.load`, all in one run.

python examples/compare_torch_save.py FOLDER
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

import sucrose
from sucrose import Snapshot

ROUNDS = 5


def training_state() -> dict[str, Any]:
    """A transformer with a warm AdamW: 4 layers, about 0.5 GB."""
    layer = nn.TransformerEncoderLayer(d_model=1024, nhead=16, dim_feedforward=3072)
    model = nn.TransformerEncoder(layer, num_layers=4, enable_nested_tensor=False)
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    return {"model": model, "optimizer": optimizer}


def tensors_of(app_state: dict[str, Any]) -> list[torch.Tensor]:
    moments = [value for state in app_state["optimizer"].state.values() for value in state.values()]
    return [*app_state["model"].parameters(), *moments]


def torch_save_durably(state: object, path: Path) -> None:
    torch.save(state, path)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def files_of(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]


def drop_from_page_cache(path: Path) -> None:
    for file in files_of(path):
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def bring_into_page_cache(path: Path) -> None:
    for file in files_of(path):
        with file.open("rb") as opened:
            while opened.read(1 << 24):
                pass


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def alternate(actions: Mapping[Path, Callable[[], object]], prepare: Callable[[Path], None]) -> list[list[float]]:
    """Seconds of each action in each round; every action is prepared with the path that it works on."""
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(ROUNDS):
        for seconds, (path, action) in zip(times, actions.items(), strict=True):
            prepare(path)
            start = time.perf_counter()
            action()
            seconds.append(time.perf_counter() - start)
    return times


def print_rows(names: list[str], times: list[list[float]], nbytes: int) -> None:
    for name, seconds in zip(names, times, strict=True):
        median = statistics.median(seconds)
        print(
            f"  {name:20}{median:9.3f}{min(seconds):8.3f}{max(seconds):8.3f}"
            f"{nbytes / median / 1e9:8.2f}{statistics.median(times[0]) / median:7.1f} x"
        )


def compare(folder: Path) -> None:
    app_state = training_state()
    state = {key: stateful.state_dict() for key, stateful in app_state.items()}
    nbytes = sum(tensor.nbytes for tensor in tensors_of(app_state))
    expected = [tensor.clone() for tensor in tensors_of(app_state)]
    torch_file, sucrose_file, snapshot = folder / "torch.pt", folder / "sucrose.pt", folder / "snapshot"
    saves = {
        torch_file: lambda: torch_save_durably(state, torch_file),
        sucrose_file: lambda: sucrose.save(state, str(sucrose_file)),
        snapshot: lambda: Snapshot.take(str(snapshot), app_state),
    }
    loads = {
        torch_file: lambda: torch.load(torch_file),
        sucrose_file: lambda: sucrose.load(str(sucrose_file)),
        snapshot: lambda: Snapshot(str(snapshot)).restore(app_state),
    }

    print(f"{nbytes / 1e6:.0f} MB in {len(expected)} tensors; median of {ROUNDS} alternating runs\n")
    print(f"{'':22}{'seconds':>9}{'min':>8}{'max':>8}{'GB/s':>8}")
    print("save, fsync included")
    print_rows(["torch.save + fsync", "sucrose.save", "Snapshot.take"], alternate(saves, remove), nbytes)
    load_names = ["torch.load", "sucrose.load", "Snapshot.restore"]
    print("load, file in the page cache")
    print_rows(load_names, alternate(loads, bring_into_page_cache), nbytes)
    print("load, file on the disk only")
    print_rows(load_names, alternate(loads, drop_from_page_cache), nbytes)

    for tensor, original in zip(tensors_of(app_state), expected, strict=True):
        assert torch.equal(tensor, original), "restored other values than were saved"
    for path in saves:
        remove(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the state is saved to and loaded from")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    compare(folder)
