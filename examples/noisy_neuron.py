"""A compression that is real: one neuron forgets its input, and every way of measuring says so.

X is uniform on {-3, -1, 1, 3}, the target is +1 for X = 3 and -1 otherwise, and the neuron gives tanh(w X + b), read
through noise of standard deviation beta: T = tanh(w X + b) + beta Z. Gradient descent first pulls the four inputs
apart and then pushes three of them together into the saturated end of tanh, so that I(X;T) rises and falls (Goldfeld
et al. 2019). Four Gaussians on a line: the truth is an integral, printed beside what the callback measured.

    python examples/noisy_neuron.py --steps 2000 --log-dir runs
"""

# ruff: noqa: D102 (the hooks are documented by Lightning)

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, TensorDataset

from mi_callback import MutualInformationMonitor

INPUTS = np.array([-3.0, -1.0, 1.0, 3.0])
AFTER_STEPS = [1, 5, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000]  # epochs end after so many steps


class Neuron(L.LightningModule):
    """tanh(w x + b), from w = .02 and b = 0, by plain gradient descent."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 1)
        nn.init.constant_(self.linear.weight, 0.02)
        nn.init.zeros_(self.linear.bias)
        self.path: list[tuple[float, float]] = []  # w and b at the end of each epoch

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.linear(x))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return nn.functional.mse_loss(self(x), y)

    def on_train_epoch_end(self) -> None:
        self.path.append((self.linear.weight.item(), self.linear.bias.item()))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)


class FullBatches(Sampler[list[int]]):
    """The whole data set as one batch, as often in each epoch as it takes to get to the next of ``AFTER_STEPS``."""

    def __init__(self, n: int) -> None:
        self.n, self.epoch = n, 0

    def __iter__(self) -> Iterator[list[int]]:
        steps = AFTER_STEPS[self.epoch] - (AFTER_STEPS[self.epoch - 1] if self.epoch else 0)
        self.epoch += 1
        yield from [list(range(self.n))] * steps


def exact(w: float, b: float, beta: float) -> float:
    """I(X;T) in bits: entropy of a mixture of four Gaussians, less that of one."""
    t = np.arange(-1 - 10 * beta, 1 + 10 * beta, beta / 20)
    z = (t[:, None] - np.tanh(w * INPUTS + b)) / beta
    p = np.exp(-(z**2) / 2).mean(axis=1) / (beta * np.sqrt(2 * np.pi))
    terms = np.where(p > 0, p * np.log2(np.where(p > 0, p, 1)), 0)
    return float(-terms.sum() * beta / 20 - 0.5 * np.log2(2 * np.pi * np.e * beta**2))


def main(argv: list[str] | None = None) -> tuple[MutualInformationMonitor, list[float]]:
    """Train, measure, print; return the monitor and the exact values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, choices=AFTER_STEPS)
    parser.add_argument("--beta", type=float, default=0.1, help="standard deviation of the noise")
    parser.add_argument("--log-dir", type=Path, default=Path("runs"))
    options = parser.parse_args(argv)

    x = torch.tensor(INPUTS, dtype=torch.float32).repeat(250)[:, None]
    data = TensorDataset(x, torch.where(x == 3, 1.0, -1.0))
    loader = DataLoader(data, batch_sampler=FullBatches(len(data)), collate_fn=lambda rows: data[: len(rows)])
    model = Neuron()
    monitor = MutualInformationMonitor(quantities=("target", "input"), noise_std=options.beta)
    trainer = L.Trainer(
        max_epochs=AFTER_STEPS.index(options.steps) + 1,
        logger=TensorBoardLogger(options.log_dir, name="noisy_neuron"),
        callbacks=[monitor],
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, loader)

    rows = [row for row in monitor.history.to_rows() if row["layer"] == "output" and row["quantity"] == "input"]
    truth = [exact(w, b, options.beta) for w, b in model.path]
    print(f"I(X;T) in bits, T = tanh(w X + b) + {options.beta:g} Z\n{'step':>8}{'exact':>10}{'measured':>10}")
    for row, step, value in zip(rows, AFTER_STEPS, truth, strict=False):
        print(f"{step:>8}{value:>10.3f}{row['mi']:>10.3f}")
    print(f"verdict: {monitor.verdicts()['output']}")
    print(f"truth:   it peaks at {max(truth):.2f} and ends at {truth[-1]:.2f} bits.")
    return monitor, truth


if __name__ == "__main__":
    main()
