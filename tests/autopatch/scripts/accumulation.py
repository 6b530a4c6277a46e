"""Gradient accumulation under a GradScaler, with a learning rate that changes with every step."""

import torch
import torch.nn.functional as F  # noqa: N812 - as tutorials do
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(3)
features = torch.randn(90, 8)
targets = features @ torch.randn(8, 2)
loader = DataLoader(TensorDataset(features, targets), batch_size=6, shuffle=True)
model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, 2))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
epochs, accumulate = 3, 4
scheduler = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, max_lr=0.02, epochs=epochs, steps_per_epoch=(len(loader) + accumulate - 1) // accumulate
)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3)
for epoch in range(epochs):
    losses = []
    for i, (x, y) in enumerate(loader):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.mse_loss(model(x).float(), y) / accumulate
        scaler.scale(loss).backward()
        losses.append(loss.item())
        if (i + 1) % accumulate == 0 or i + 1 == len(loader):
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            scheduler.step()
    print(f"epoch {epoch}: {sum(losses) / len(losses):.5f} scale {scaler.get_scale()} lr {scheduler.get_last_lr()}")
torch.save(
    {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "lr": scheduler.get_last_lr()}, "final.pt"
)
