"""Measures saving and loading a training state beside `torch.save` and `torch.load`, all in one run.

python examples/compare_torch_save.py FOLDER
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import time
from collections.abc import Callable
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


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def compare(folder: Path) -> None:
    app_state = training_state()
    state = {key: stateful.state_dict() for key, stateful in app_state.items()}
    nbytes = sum(tensor.nbytes for tensor in tensors_of(app_state))
    expected = [tensor.clone() for tensor in tensors_of(app_state)]
    torch_file, sucrose_file, snapshot = folder / "torch.pt", folder / "sucrose.pt", folder / "snapshot"

    saves: dict[str, tuple[Path, Callable[[], object]]] = {
        "torch.save + fsync": (torch_file, lambda: torch_save_durably(state, torch_file)),
        "sucrose.save": (sucrose_file, lambda: sucrose.save(state, str(sucrose_file))),
        "Snapshot.take": (snapshot, lambda: Snapshot.take(str(snapshot), app_state)),
    }
    loads: dict[str, Callable[[], object]] = {
        "torch.load": lambda: torch.load(torch_file),
        "sucrose.load": lambda: sucrose.load(str(sucrose_file)),
        "Snapshot.restore": lambda: Snapshot(str(snapshot)).restore(app_state),
    }
    times: dict[str, list[float]] = {name: [] for name in [*saves, *loads]}
    for _ in range(ROUNDS):
        for name, (path, save) in saves.items():
            remove(path)
            times[name].append(seconds(save))
        for name, load in loads.items():
            times[name].append(seconds(load))

    for tensor, original in zip(tensors_of(app_state), expected, strict=True):
        assert torch.equal(tensor, original), "restored other values than were saved"
    for path in (torch_file, sucrose_file, snapshot):
        remove(path)

    print(f"{nbytes / 1e6:.0f} MB in {len(expected)} tensors; median of {ROUNDS} alternating runs")
    print("Saves are durable: fsync is inside every figure. Loads are from the page cache.\n")
    print(f"{'':20}{'seconds':>9}{'min':>8}{'max':>8}{'GB/s':>8}{'':>4}")
    for group in (saves, loads):
        baseline = statistics.median(times[next(iter(group))])
        for name in group:
            median = statistics.median(times[name])
            print(
                f"{name:20}{median:9.3f}{min(times[name]):8.3f}{max(times[name]):8.3f}"
                f"{nbytes / median / 1e9:8.2f}{baseline / median:7.1f} x"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the state is saved to and loaded from")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    compare(folder)
