"""Trains until the schedule has come to its end; there is no loader."""

import torch
from torch import nn

torch.manual_seed(9)
model = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Dropout(0.1), nn.Linear(6, 1))
for layer in (model[0], model[3]):
    nn.init.xavier_uniform_(layer.weight)
optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.95)
while schedule.last_epoch < 30:
    optimizer.zero_grad()
    x = torch.randn(16, 3)
    loss = (model(x).squeeze(1) - x.prod(dim=1)).pow(2).mean()
    loss.backward()
    optimizer.step()
    schedule.step()
    if schedule.last_epoch % 10 == 0:
        print(f"{schedule.last_epoch}: {loss.item():.5f}")
torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "final.pt")
