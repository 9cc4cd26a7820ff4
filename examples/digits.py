"""Real images: what the layers of a small classifier hold on the digit, and how much of that is usable.

The 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn, ten classes. Some truths are known without any
estimator: no layer holds more on the class than H(Y), about 3.32 bits, and a layer from which a linear decoder gets u
bits on samples it has not seen holds at least u. The layers are deterministic and the pixels many, so I(X;T) is
measured through noise, sigma = 1.

    python examples/digits.py --epochs 30 --log-dir runs
"""

# ruff: noqa: D102 (the hooks are documented by Lightning)

from __future__ import annotations

import argparse
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mi_callback import MutualInformationMonitor


class Classifier(L.LightningModule):
    """A multilayer perceptron 64-32-16-10 with ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(64, 32),
            nn.ReLU(),
            nn.Linear(32, 16),
            nn.ReLU(),
            nn.Linear(16, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        loss = nn.functional.cross_entropy(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def report(monitor: MutualInformationMonitor) -> str:
    """First and last values of every layer, and what they are held against."""
    rows = {(r["epoch"], r["layer"], r["quantity"]): r for r in monitor.history.to_rows()}
    epochs = sorted({epoch for epoch, _, _ in rows})
    entropy = monitor.history.ceilings["H(Y)"].value
    lines = [f"{'bits':<10}{'epoch':>7}{'I(T;Y)':>9}{'usable':>9}{'I(X;T+Z)':>10}  flags"]
    sound = True
    for layer in monitor.history.layers:
        for epoch in (epochs[0], epochs[-1]):
            total, usable, noisy = (rows[epoch, layer, q] for q in ("target", "usable", "input"))
            lines.append(
                f"{layer:<10}{epoch:>7}{total['mi']:>9.2f}{usable['mi']:>9.2f}{noisy['mi']:>10.2f}"
                f"  {', '.join([*total['flags'], *noisy['flags']])}"
            )
            low = usable["mi"] - 2 * usable["stderr"]
            sound &= low <= total["mi"] + 2 * total["stderr"] or "below_usable" in total["flags"]
            sound &= total["mi"] <= entropy + 2 * total["stderr"] or "above_ceiling" in total["flags"]
    lines.append(f"truth: usable <= I(T;Y) <= H(Y) = {entropy:.2f}.")
    lines.append("verdict: " + ("every value keeps to it, or is flagged." if sound else "a value breaks it unflagged."))
    lines += [f"verdict on {layer}: {verdict}" for layer, verdict in monitor.verdicts().items()]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> MutualInformationMonitor:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--measure-every", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log-dir", type=Path, default=Path("runs"))
    options = parser.parse_args(argv)

    L.seed_everything(options.seed, verbose=False)
    pixels, classes = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(classes))
    monitor = MutualInformationMonitor(every_n_epochs=options.measure_every, noise_std=1.0, n_permutations=20)
    trainer = L.Trainer(
        max_epochs=options.epochs + 1,
        logger=TensorBoardLogger(options.log_dir, name="digits"),
        callbacks=[monitor],
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Classifier(), DataLoader(data, batch_size=64, shuffle=True))
    print(report(monitor))
    return monitor


if __name__ == "__main__":
    main()
