"""Trains a classifier of handwritten digits as a scenario: its configuration, checkpoints and logs have a home.

    python examples/train.py                              # base/case1 of examples/digits
    python examples/train.py examples/digits base/case2
    sucrose run examples/train.py base/case1 optim.lr=3e-3 train.epochs=40

The data come with scikit-learn, and plots need the extra `plot`. It may be stopped at any time, and killed: started
again it goes on, and ends with the very bits that it would have ended with undisturbed. What came of it is shown by

    sucrose runs examples/digits
    sucrose compare -w examples/digits base/case1 base/case2
    sucrose plot examples/digits
    sucrose report examples/digits -o report.html
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import sucrose


class ExampleModule(nn.Module):
    """Its arguments are fields of the configuration."""

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(input_dim, hidden_dim),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, hidden_dim),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, output_dim),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(images)
        return logits


def digits() -> tuple[TensorDataset, TensorDataset]:
    """1437 images for training and 360 for testing, 8x8 pixels each; they come with scikit-learn."""
    data = load_digits()
    images = torch.tensor(data.data, dtype=torch.float32) / 16
    labels = torch.tensor(data.target)
    return TensorDataset(images[:1437], labels[:1437]), TensorDataset(images[1437:], labels[1437:])


@torch.no_grad()
def evaluate(model: nn.Module, data: TensorDataset, device: torch.device) -> dict[str, float]:
    images, labels = (tensor.to(device) for tensor in data.tensors)
    model.eval()
    logits = model(images)
    model.train()
    return {
        "loss": nn.functional.cross_entropy(logits, labels).item(),
        "accuracy": (logits.argmax(dim=1) == labels).float().mean().item(),
    }


def train(workspace: Path, name: str) -> None:
    ssc = sucrose.scenario(workspace, name)
    torch.manual_seed(ssc["seed"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    training, test = digits()
    model = ssc.partial(ExampleModule, "model")().to(device)
    optim = ssc.partial(torch.optim.AdamW, "optim")(model.parameters())
    loader = DataLoader(training, ssc["train.batch_size"], shuffle=True)
    ssc.track(loader=loader)  # the order of the data, and how far an epoch has come, belong to the state

    ssc.load_state_dict(model=model, optim=optim, loader_kwds={"weights_only": True})
    writer = ssc.start_pytorch_tensorboard()
    print(f"{ssc.name}: {ssc['model.input_dim']} inputs, {ssc.epoch} epochs and {ssc.num_steps} steps done", flush=True)

    # epoch_range(N) would be another N epochs; this goes on to a goal, however often it is interrupted.
    for epoch in sucrose.epoch_range(until=ssc["train.epochs"]):
        for images, labels in loader:
            logits = model(images.to(device))
            loss = nn.functional.cross_entropy(logits, labels.to(device))
            optim.zero_grad()
            loss.backward()
            optim.step()
            sucrose.step()
            writer.add_scalar("train/loss", loss.item(), ssc.num_steps)
        metrics = evaluate(model, test, device)
        ssc.log({"test": metrics})  # TensorBoard's test/loss and test/accuracy; the latter tells which epochs are best
        ssc.save_state_dict(10, model=model, optim=optim)
        print(f"epoch {epoch}: {ssc.num_stes} steps, test accuracy {metrics['accuracy']:.1%}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", nargs="?", type=Path, default=Path(__file__).parent / "digits")
    parser.add_argument("scenario", nargs="?", default="base/case1")
    arguments = parser.parse_args()
    train(arguments.workspace, arguments.scenario)
