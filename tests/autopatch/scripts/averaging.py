"""An average of the weights beside the model, evaluation every few batches, batches from a stream."""

import copy

import torch
import torch.nn.functional as F  # noqa: N812 - as tutorials do
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset


class Stream(IterableDataset):
    def __iter__(self):
        for _ in range(70):
            x = torch.randn(5)
            yield x, (x[0] - x[1] > 0).float()


torch.manual_seed(23)
model = nn.Sequential(nn.Linear(5, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Linear(10, 1))
average = copy.deepcopy(model).requires_grad_(False)
held_out = torch.randn(30, 5)
val_loader = DataLoader(TensorDataset(held_out, (held_out[:, 0] > held_out[:, 1]).float()), batch_size=8)
optimizer = torch.optim.RMSprop(model.parameters(), lr=0.01, momentum=0.5)
warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=5)
decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, decay], milestones=[5])
train_loader = DataLoader(Stream(), batch_size=7)


def evaluate(network):
    network.eval()
    with torch.no_grad():
        hits = sum(((network(x).squeeze(1) > 0) == (y > 0.5)).sum().item() for x, y in val_loader)
    network.train()
    return hits / len(held_out)


for epoch in range(3):
    for step, (x, y) in enumerate(train_loader):
        loss = F.binary_cross_entropy_with_logits(model(x).squeeze(1), y)
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        optimizer.step()
        scheduler.step()
        with torch.no_grad():
            for kept, current in zip(average.parameters(), model.parameters(), strict=True):
                kept.lerp_(current, 0.1)
            for kept, current in zip(average.buffers(), model.buffers(), strict=True):
                kept.copy_(current)
        if step % 4 == 3:
            print(f"{epoch}.{step}: {evaluate(model):.3f} {evaluate(average):.3f} lr {scheduler.get_last_lr()[0]:.6f}")
torch.save(
    {"model": model.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}, "final.pt"
)
