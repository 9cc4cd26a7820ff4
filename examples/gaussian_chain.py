"""A compression that is not there, and how the report says so: a noisy linear network in closed form.

X ~ N(0, I) in 8 dimensions, layers T_l = W_l T_(l-1) + b_l + .3 Z_l of widths 6, 4, 2, 1, and Y = A X + .5 E. All
is Gaussian, so that I(X;T) and I(T;Y) are log-determinants of the weights. The exact I(X;T) of the first layer rises
all through training. An estimate by nearest neighbours sees less than half of it, since 2,000 samples are few in so
many dimensions, and it falls: a compression phase made by the estimator. The callback flags these values and
contradicts the fall, because a linear decoder gets more, and ever more, out of the same samples.

    python examples/gaussian_chain.py --epochs 160 --space standard --log-dir runs
"""

# ruff: noqa: D102 (the hooks are documented by Lightning)

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mi_callback import MutualInformationMonitor

WIDTHS, NOISE, TARGET_NOISE = [8, 6, 4, 2, 1], 0.3, 0.5


class NoisyLinear(nn.Linear):
    """W t + b + .3 Z, with fresh noise at every call, in training and evaluation."""

    def forward(self, t: Tensor) -> Tensor:
        t = super().forward(t)
        return t + NOISE * torch.randn_like(t)


class Chain(L.LightningModule):
    """Noisy linear layers; keeps the exact information of the first layers at the end of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(*(NoisyLinear(a, b) for a, b in pairwise(WIDTHS)))
        for layer in self.net:
            nn.init.normal_(layer.weight, std=0.3 / layer.in_features**0.5)
        self.exact: dict[int, list[float]] = {}

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return nn.functional.mse_loss(self(x), y)

    def on_train_epoch_end(self) -> None:
        signal, noise, values = np.eye(WIDTHS[0]), np.zeros((WIDTHS[0], WIDTHS[0])), []
        for layer in self.net:
            w = layer.weight.detach().double().numpy()
            signal, noise = w @ signal, w @ noise @ w.T + NOISE**2 * np.eye(len(w))
            total = signal @ signal.T + noise
            values.append(float(np.linalg.slogdet(total)[1] - np.linalg.slogdet(noise)[1]) / 2 / np.log(2))
        self.exact[self.current_epoch] = values

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def report(monitor: MutualInformationMonitor, model: Chain) -> str:
    """I(X;T) of every layer: exact, by neighbours, by a linear decoder, and what the callback says of it."""
    rows = [r for r in monitor.history.to_rows() if r["quantity"] == "input" and r["layer"] != "output"]
    lines = [f"I(X;T) in bits\n{'layer':<8}{'epoch':>6}{'exact':>9}{'measured':>10}{'decoder':>9}  flags"]
    for i, layer in enumerate(dict.fromkeys(r["layer"] for r in rows)):
        mine = [r for r in rows if r["layer"] == layer]
        decoder = monitor.evidence.curves(layer)["linear decoder"].values
        for at in sorted({0, min(1, len(mine) - 1), len(mine) - 1}):
            row = mine[at]
            lines.append(
                f"{layer:<8}{row['epoch']:>6}{model.exact[row['epoch']][i]:>9.2f}{row['mi']:>10.2f}"
                f"{decoder[at]:>9.2f}  {', '.join(row['flags'])}"
            )
        start, end = (model.exact[mine[at]["epoch"]][i] for at in (0, -1))
        lines.append(f"  verdict: {monitor.verdicts()[layer]}")
        lines.append(f"  truth:   it {'rises' if end > start else 'falls'} from {start:.2f} to {end:.2f} bits.")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> tuple[MutualInformationMonitor, Chain]:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=160)
    parser.add_argument("--measure-every", type=int, default=10)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--space", default="standard", help="standard, as is common, or auto, the callback's default")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log-dir", type=Path, default=Path("runs"))
    options = parser.parse_args(argv)

    L.seed_everything(options.seed, verbose=False)
    readout = torch.linspace(1, 0.2, WIDTHS[0])
    x = torch.randn(options.samples, WIDTHS[0])
    y = x @ (readout / readout.norm())[:, None] + TARGET_NOISE * torch.randn(options.samples, 1)
    model = Chain()
    monitor = MutualInformationMonitor(
        layers=["net.?"], every_n_epochs=options.measure_every, n_permutations=0, space=options.space
    )
    trainer = L.Trainer(
        max_epochs=options.epochs + 1,
        logger=TensorBoardLogger(options.log_dir, name="gaussian_chain"),
        callbacks=[monitor],
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True))
    print(report(monitor, model))
    return monitor, model


if __name__ == "__main__":
    main()
