"""Two networks against each other, two loaders side by side, of which one begins anew when it ends."""

import torch
import torch.nn.functional as F  # noqa: N812 - as tutorials do
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

torch.manual_seed(1)
real = torch.randn(80, 4) * 0.5 + 1
conditions = torch.randn(48, 3)
real_loader = DataLoader(TensorDataset(real), batch_size=10, shuffle=True, drop_last=True)
condition_set = TensorDataset(conditions)
condition_loader = DataLoader(
    condition_set, batch_size=10, sampler=RandomSampler(condition_set, replacement=True, num_samples=80)
)
pairs_loader = DataLoader(condition_set, batch_size=10, shuffle=True)

generator = nn.Sequential(nn.Linear(3, 8), nn.LeakyReLU(0.2), nn.Linear(8, 4))
discriminator = nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Linear(8, 1))
optimizer_g = torch.optim.Adam(generator.parameters(), lr=0.01, betas=(0.5, 0.999))
optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=0.01, betas=(0.5, 0.999))


def update(x, c):
    optimizer_d.zero_grad()
    fake = generator(c + 0.1 * torch.randn_like(c))
    scores = discriminator(torch.cat([x, fake.detach()])).squeeze(1)
    loss_d = F.binary_cross_entropy_with_logits(scores, torch.cat([torch.ones(len(x)), torch.zeros(len(fake))]))
    loss_d.backward()
    optimizer_d.step()
    optimizer_g.zero_grad()
    loss_g = F.binary_cross_entropy_with_logits(discriminator(fake).squeeze(1), torch.ones(len(fake)))
    loss_g.backward()
    optimizer_g.step()
    return loss_d.item(), loss_g.item()


pairs = iter(pairs_loader)
for epoch in range(3):
    for i, ((x,), (c,)) in enumerate(zip(real_loader, condition_loader, strict=False)):
        try:
            (extra,) = next(pairs)
        except StopIteration:
            pairs = iter(pairs_loader)
            (extra,) = next(pairs)
        loss_d, loss_g = update(x, torch.cat([c, extra]))
        if i % 3 == 0:
            print(f"{epoch}.{i}: {loss_d:.4f} {loss_g:.4f}")
torch.save({"g": generator.state_dict(), "d": discriminator.state_dict(), "o": optimizer_d.state_dict()}, "final.pt")
