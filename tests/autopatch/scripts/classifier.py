"""As in a tutorial: train and test loops, a schedule, the best and the last weights in files."""

import torch
import torch.nn.functional as F  # noqa: N812 - as tutorials do
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(7)
features = torch.randn(200, 12)
labels = (features.sum(dim=1) > 0).long() + (features[:, 0] > 1).long()
train_loader = DataLoader(TensorDataset(features[:150], labels[:150]), batch_size=16, shuffle=True)
test_loader = DataLoader(TensorDataset(features[150:], labels[150:]), batch_size=25)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(12, 24)
        self.norm = nn.BatchNorm1d(24)
        self.dropout = nn.Dropout(0.3)
        self.output = nn.Linear(24, 3)

    def forward(self, x):
        return self.output(self.dropout(F.relu(self.norm(self.hidden(x)))))


def train(model, loader, optimizer):
    model.train()
    total = 0.0
    for i, (x, y) in enumerate(loader):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item()
        if i % 4 == 0:
            print(f"  batch {i}: {loss.item():.4f}")
    return total / len(loader)


def test(model, loader):
    model.eval()
    correct = total = 0
    with torch.no_grad():
        for x, y in loader:
            correct += (model(x).argmax(dim=1) == y).sum().item()
            total += len(y)
    return correct / total


model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)
best = 0.0
for epoch in range(3):
    loss = train(model, train_loader, optimizer)
    accuracy = test(model, test_loader)
    scheduler.step()
    print(f"epoch {epoch}: loss {loss:.4f}, accuracy {accuracy:.3f}, lr {scheduler.get_last_lr()[0]:.4f}")
    if accuracy > best:
        best = accuracy
        torch.save(model.state_dict(), "best.pt")
torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "final.pt")
