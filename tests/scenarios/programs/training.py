"""A training script as a user would write it, with all that makes an exact resume hard.

Data are shuffled and augmented with each of the three kinds of random numbers, the model has dropout and batch
norm, the optimizer momentum, the rate a schedule. At its end it saves what it has come to.
"""

from __future__ import annotations

import random
import sys

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

import sucrose

torch.set_num_threads(1)
WORKSPACE, KIND, EPOCHS, INTERVAL = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])


class Noisy(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    def __len__(self) -> int:
        return 48

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        clean = torch.linspace(index, index + 1, 8) / 48
        noise = torch.randn(8) + random.gauss(0, 1) + torch.from_numpy(np.random.standard_normal(8)).float()
        return clean + 0.01 * noise, clean.sum().reshape(1)


def loader_of(kind: str) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
    if kind == "stateful":
        from torchdata.stateful_dataloader import StatefulDataLoader

        return StatefulDataLoader(Noisy(), batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(3))
    if kind == "generator":
        return DataLoader(Noisy(), batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(3))
    return DataLoader(Noisy(), batch_size=4, shuffle=True, num_workers=2 if kind == "workers" else 0)


def main() -> None:
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(8, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(), torch.nn.Dropout(0.3), torch.nn.Linear(16, 1)
    )
    optim = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optim, 0.99)
    with sucrose.Scenario(WORKSPACE, "base/case1") as ssc:
        loader = ssc.track(loader=loader_of(KIND))
        ssc.track(schedule=schedule)
        ssc.load_state_dict(model=model, optim=optim)
        torch.rand(5)  # whatever a program draws before its loop
        print("begins at", ssc.epoch, ssc.num_steps, ssc.skipped_batches, flush=True)
        for _ in sucrose.epoch_range(until=EPOCHS):
            for inputs, targets in loader:
                loss = torch.nn.functional.mse_loss(model(inputs), targets)
                optim.zero_grad()
                loss.backward()
                optim.step()
                sucrose.step()
                schedule.step()
                print("step", ssc.num_steps, flush=True)
            ssc.log({"loss": loss})
            ssc.save_state_dict(INTERVAL, model=model, optim=optim)
        state = {"model": model.state_dict(), "optim": optim.state_dict(), "schedule": schedule.state_dict()}
        drawn = [torch.rand(1), random.random(), float(np.random.random())]
        torch.save({**state, "drawn": drawn, "steps": ssc.num_steps}, f"{WORKSPACE}/final.pt")


main()
