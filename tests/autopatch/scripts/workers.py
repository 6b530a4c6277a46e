"""Workers that change the samples at random, a generator of the program's own, a plateau schedule."""

import random

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - as tutorials do
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Noisy(Dataset):
    def __init__(self, n, noise):
        generator = torch.Generator().manual_seed(n)
        self.features = torch.randn(n, 6, generator=generator)
        self.noise = noise

    def __len__(self):
        return len(self.features)

    def __getitem__(self, index):
        x = self.features[index]
        y = x.sum()
        if self.noise:
            x = x + self.noise * torch.randn(6) + random.gauss(0, 0.01)
        return x, y


def main():
    torch.manual_seed(11)
    random.seed(5)
    np.random.seed(6)
    model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Dropout(0.1), nn.Linear(12, 1))
    train_loader = DataLoader(
        Noisy(60, 0.1), batch_size=8, shuffle=True, num_workers=2, generator=torch.Generator().manual_seed(42)
    )
    test_loader = DataLoader(Noisy(20, 0.0), batch_size=10)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.5)
    for epoch in range(3):
        for x, y in train_loader:
            loss = F.mse_loss(model(x).squeeze(1), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if np.random.rand() < 0.3:
                print(f"  {loss.item():.4f}")
        model.eval()
        with torch.no_grad():
            error = sum(F.mse_loss(model(x).squeeze(1), y, reduction="sum").item() for x, y in test_loader)
        model.train()
        scheduler.step(error / len(test_loader.dataset))
        print(f"epoch {epoch}: {error:.4f} lr {optimizer.param_groups[0]['lr']}")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "final.pt")


if __name__ == "__main__":
    main()
