"""A trainable network whose every number is known in closed form, measured through the real callback."""

from __future__ import annotations

from itertools import pairwise

import lightning as L
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mi_callback import MutualInformationMonitor
from tests.ground_truth import BITS, LinearGaussianChain


class NoisyLinear(nn.Module):
    """W t + b + s Z with fresh noise at every call, in training and in evaluation."""

    def __init__(self, d_in: int, d_out: int, noise: float) -> None:
        super().__init__()
        self.linear = nn.Linear(d_in, d_out)
        nn.init.normal_(self.linear.weight, std=0.3 / np.sqrt(d_in))
        self.noise = noise

    def forward(self, t):
        t = self.linear(t)
        return t + self.noise * torch.randn_like(t)


class Chain(L.LightningModule):
    """Noisy linear layers, trained on the mean squared error."""

    def __init__(self, d: int, sizes: list[int], noise: float) -> None:
        super().__init__()
        widths = [d, *sizes]
        self.net = nn.Sequential(*(NoisyLinear(a, b, noise) for a, b in pairwise(widths)))
        self.truths: dict[int, list[np.ndarray]] = {}

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return nn.functional.mse_loss(self(x), y)

    def on_train_epoch_end(self) -> None:
        self.truths[self.current_epoch] = [layer.linear.weight.detach().double().numpy().copy() for layer in self.net]

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*logger.*")
@pytest.mark.filterwarnings("ignore:Measuring mutual information takes:RuntimeWarning")  # on a busy machine
def test_a_small_chain_agrees_with_its_closed_form():
    """Evidence: log-determinants at the weights of the epoch; both planes of every layer within .15 bits."""
    d, sizes, noise, target_noise = 2, [2, 2, 1], 0.2, 0.3
    readout = np.linspace(1, 0.2, d)[None] / np.linalg.norm(np.linspace(1, 0.2, d))
    torch.manual_seed(0)
    x = torch.randn(5000, d)
    y = x @ torch.tensor(readout.T, dtype=torch.float32) + target_noise * torch.randn(5000, 1)
    model = Chain(d, sizes, noise)
    monitor = MutualInformationMonitor(layers=["net.?"], every_n_epochs=5, n_permutations=10)
    trainer = L.Trainer(
        max_epochs=11,
        callbacks=[monitor],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader(TensorDataset(x, y), batch_size=256, shuffle=True))
    rows = {(row["epoch"], row["layer"], row["quantity"]): row for row in monitor.history.to_rows()}
    for epoch in (0, 5, 10):
        chain = LinearGaussianChain(tuple(model.truths[epoch]), (noise,) * 3, readout, target_noise, np.eye(d))
        assert chain.with_target(0) * BITS == pytest.approx(1.7991, abs=1e-4)
        for depth in (1, 2, 3):
            got = {q: rows[epoch, f"net.{depth - 1}", q]["raw"] for q in ("input", "target")}
            assert got["input"] == pytest.approx(chain.with_input(depth) * BITS, abs=0.15)
            assert got["target"] == pytest.approx(chain.with_target(depth) * BITS, abs=0.15)
    # Trained: the last layer holds most of the ceiling, and more than at the start.
    assert rows[10, "net.2", "target"]["mi"] > rows[0, "net.2", "target"]["mi"] + 0.3
