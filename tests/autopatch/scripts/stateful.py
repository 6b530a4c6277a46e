"""A loader of torchdata's, which keeps its position itself."""

import torch
import torch.nn.functional as F  # noqa: N812 - as tutorials do
from torch import nn
from torchdata.stateful_dataloader import StatefulDataLoader

torch.manual_seed(2)
features = torch.randn(64, 6)
data = [(x, x.sum()) for x in features]
model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
loader = StatefulDataLoader(data, batch_size=8, shuffle=True)
for epoch in range(3):
    for i, (x, y) in enumerate(loader):
        optimizer.zero_grad()
        loss = F.mse_loss(model(x).squeeze(1), y)
        loss.backward()
        optimizer.step()
        if i % 4 == 0:
            print(f"{epoch}.{i}: {loss.item():.4f}")
torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "final.pt")
