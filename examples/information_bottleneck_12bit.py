"""The famous compression of the information plane, next to the truth: twelve bits in, and twelve bits all along.

Shwartz-Ziv & Tishby (2017) saw I(X;T) of tanh layers fall in training by cutting activations into 30 bins. Their kind
of task, made from geometry instead of a data file: the inputs are all 4,096 subsets of the icosahedron's 12 vertices,
the class depends on how many vertices are chosen and how they lie to each other. A layer of this network maps each of
the 4,096 inputs to a point of its own unless units saturate to the last bit, so that exactly I(X;T) = H(T) = 12 bits.
The callback sees that the inputs are discrete and counts. What falls for tanh is the number of occupied bins: an
artefact of saturation (Saxe et al. 2019). With ReLU inputs that switch off the same units do merge: where that happens
the exact value falls as well, and the callback says so. What training changes in either case is the usable part of
I(T;Y), which starts near nothing and ends near H(Y).

    python examples/information_bottleneck_12bit.py --activation tanh --epochs 200 --log-dir runs
"""

# ruff: noqa: D102 (the hooks are documented by Lightning)

from __future__ import annotations

import argparse
import itertools
from itertools import pairwise
from pathlib import Path

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mi_callback import MutualInformationMonitor
from mi_callback.estimation.entropy import binned, entropy, plugin_information

BITS = 1 / np.log(2)
WIDTHS = [12, 10, 7, 5, 4, 3, 2]


def icosahedron() -> np.ndarray:
    """The twelve vertices on the unit sphere, shape (12, 3)."""
    golden = (1 + 5**0.5) / 2
    corners = [(0, a, b * golden) for a, b in itertools.product((-1, 1), repeat=2)]
    vertices = np.array([np.roll(corner, shift) for corner in corners for shift in range(3)])
    return vertices / np.linalg.norm(vertices, axis=1, keepdims=True)


def samples() -> tuple[np.ndarray, np.ndarray]:
    """All inputs, shape (4096, 12), zeros and ones, and their classes, shape (4096,)."""
    x = np.array(list(itertools.product([0, 1], repeat=12)))
    products = icosahedron() @ icosahedron().T
    above = np.triu(np.ones((12, 12), bool), 1)
    a, b, c = (
        np.einsum("ni,ij,nj->n", x, above & np.isclose(products, value), x) for value in (5**-0.5, -(5**-0.5), -1)
    )
    return x, (206 * x.sum(axis=1) + 4 * a - 44 * b - 68 * c > 859).astype(int)


class Classifier(L.LightningModule):
    """A multilayer perceptron 12-10-7-5-4-3-2."""

    def __init__(self, activation: str) -> None:
        super().__init__()
        act = {"tanh": nn.Tanh, "relu": nn.ReLU}[activation]
        hidden = [module for a, b in pairwise(WIDTHS[:-1]) for module in (nn.Linear(a, b), act())]
        self.net = nn.Sequential(*hidden, nn.Linear(*WIDTHS[-2:]))
        for module in self.net:
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        loss = nn.functional.cross_entropy(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=4e-3)


class ByHand(L.Callback):
    """What counting and binning give, on the same activations: exact values, and the artefact."""

    def __init__(self, x: Tensor, y: np.ndarray, every: int) -> None:
        self.x, self.y, self.every = x, y, every
        self.rows: list[tuple[int, str, float, float, float]] = []  # epoch, layer, H(T), H(bins), I(T;Y)

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch % self.every:
            return
        t = self.x
        for name, module in pl_module.net.named_children():
            t = module(t)
            if not isinstance(module, nn.Linear):
                values = t.numpy()
                low, high = (-1.0, 1.0) if isinstance(module, nn.Tanh) else (0.0, float(values.max()))
                self.rows.append(
                    (
                        trainer.current_epoch,
                        f"net.{name}",
                        entropy(values).mean() * BITS,
                        entropy(binned(values, 30, low, high)).mean() * BITS,
                        plugin_information(values, self.y).mean() * BITS,
                    )
                )


def report(monitor: MutualInformationMonitor, by_hand: ByHand) -> str:
    """First, middle and last values of every layer: exact, binned, ours."""
    epochs = sorted({row[0] for row in by_hand.rows})
    ours = {(r["epoch"], r["layer"], r["quantity"]): r["mi"] for r in monitor.history.to_rows()}
    columns = ("exact", "binned", "ours", "exact", "ours", "usable")
    lines = [f"{'bits':<10}{'epoch':>8}{'I(X;T)':>12}{'':>24}{'I(T;Y)':>12}"]
    lines.append(f"{'':<18}" + "".join(f"{column:>12}" for column in columns))
    for layer in dict.fromkeys(row[1] for row in by_hand.rows):
        for epoch in (epochs[0], epochs[len(epochs) // 2], epochs[-1]):
            h_t, h_bins, i_y = next(row[2:] for row in by_hand.rows if row[:2] == (epoch, layer))
            cells = (
                h_t,
                h_bins,
                ours[epoch, layer, "input"],
                i_y,
                ours[epoch, layer, "target"],
                ours[epoch, layer, "usable"],
            )
            lines.append(f"{layer:<10}{epoch:>8}" + "".join(f"{cell:>12.2f}" for cell in cells))
    for layer, verdict in monitor.verdicts().items():
        lines.append(f"verdict on {layer}: {verdict}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> tuple[MutualInformationMonitor, ByHand]:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--activation", choices=("tanh", "relu"), default="tanh")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--measure-every", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log-dir", type=Path, default=Path("runs"))
    options = parser.parse_args(argv)

    L.seed_everything(options.seed, verbose=False)
    x, y = samples()
    inputs = torch.tensor(x, dtype=torch.float32)
    monitor = MutualInformationMonitor(every_n_epochs=options.measure_every, n_permutations=20)
    by_hand = ByHand(inputs, y, options.measure_every)
    trainer = L.Trainer(
        max_epochs=options.epochs + 1,
        logger=TensorBoardLogger(options.log_dir, name=f"12bit_{options.activation}"),
        callbacks=[monitor, by_hand],
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = Classifier(options.activation)
    trainer.fit(model, DataLoader(TensorDataset(inputs, torch.tensor(y)), batch_size=256, shuffle=True))
    print(report(monitor, by_hand))
    with torch.no_grad():
        right = (model(inputs).argmax(dim=1).numpy() == y).mean()
    print(f"{right:.1%} of the inputs are classified right; H(Y) = {monitor.history.ceilings['H(Y)'].value:.4f} bits.")
    return monitor, by_hand


if __name__ == "__main__":
    main()
