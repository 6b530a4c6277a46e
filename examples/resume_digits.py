"""Trains a classifier of handwritten digits that may be killed at any time.

Started again with the same folder, it goes on from the newest snapshot, and ends with the very bits that it would
have ended with undisturbed: dropout masks, the order of the data and the learning rate included.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Sampler, TensorDataset

import sucrose
from sucrose import RNGState, Snapshot

EPOCHS = 6
BATCH_SIZE = 32
SAVE_EVERY = 7  # steps; an epoch has 45, so that most snapshots fall inside one


class ResumableShuffle(Sampler[int]):
    """Yields each index once per epoch in random order, and knows how far the epoch has got."""

    def __init__(self, length: int) -> None:
        self.order = torch.randperm(length)
        self.position = 0
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[int]:
        while self.position < len(self.order):
            self.position += 1
            yield int(self.order[self.position - 1])

    def start_next_epoch(self) -> None:
        self.order = torch.randperm(len(self.order))
        self.position = 0
        self.epoch += 1

    def state_dict(self) -> dict[str, Any]:
        return {"order": self.order, "position": self.position, "epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.order = state_dict["order"]
        self.position = state_dict["position"]
        self.epoch = state_dict["epoch"]


def newest_snapshot(folder: Path) -> Path | None:
    # A snapshot gets its name when it is complete; one that was cut short stays hidden.
    return max(folder.glob("step_*"), key=lambda path: int(path.name.removeprefix("step_")), default=None)


def accuracy(model: nn.Module, data: TensorDataset) -> float:
    images, labels = data.tensors
    model.eval()
    with torch.no_grad():
        correct = (model(images).argmax(dim=1) == labels).float().mean()
    model.train()
    return correct.item()


def train(folder: Path) -> None:
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    training, test = TensorDataset(images[:1437], labels[:1437]), TensorDataset(images[1437:], labels[1437:])

    model = nn.Sequential(
        nn.Conv2d(1, 32, kernel_size=3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(64 * 4 * 4, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, 10),
    )
    shuffle = ResumableShuffle(len(training))
    # A generator of its own: the loader draws a seed whenever an iteration starts, and one more starts after a resume.
    loader = DataLoader(training, BATCH_SIZE, sampler=shuffle, generator=torch.Generator())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS * len(loader))

    app_state = {
        "model": model,
        "optimizer": optimizer,
        "scheduler": scheduler,
        "shuffle": shuffle,
        "rng": RNGState(),
    }
    if snapshot := newest_snapshot(folder):
        Snapshot(str(snapshot)).restore(app_state)
        print(f"resumed from {snapshot.name}, epoch {shuffle.epoch}, sample {shuffle.position}", flush=True)

    while shuffle.epoch < EPOCHS:
        for batch_images, batch_labels in loader:
            loss = nn.functional.cross_entropy(model(batch_images), batch_labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            if scheduler.last_epoch % SAVE_EVERY == 0:
                Snapshot.take(str(folder / f"step_{scheduler.last_epoch}"), app_state)
        print(f"epoch {shuffle.epoch}: loss {loss.item():.4f}, test accuracy {accuracy(model, test):.1%}", flush=True)
        shuffle.start_next_epoch()

    sucrose.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, str(folder / "final.pt"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the snapshots are and go")
    train(parser.parse_args().folder)
