"""A regression whose mutual information is known: watch its layers hold it, epoch by epoch, in TensorBoard.

X ~ U(-3, 3), Y = X^2 - X - 1 + 0.2 E with E ~ N(0, 1). No function of X can hold more on Y than X does, and that is
3.473 bits. A small ReLU network is trained on 350 samples by a shuffled loader, as anyone would write it; one line adds
the callback. At the end comes the trap into which measuring by hand falls: activations collected from the shuffled
loader, set beside targets in the order of the data set, share no information at all.

    python examples/regression.py --epochs 500 --measure-every 10 --seed 0 --log-dir runs
"""

# ruff: noqa: D102 (the hooks are documented by Lightning)

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import fmean

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from mi_callback import MutualInformation, MutualInformationMonitor, mutual_information

EXACT = 3.4731797  # I(X;Y) in bits, by quadrature


class Regression(L.LightningModule):
    """A multilayer perceptron 1-8-8-8-8-1 with ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(1, 8),
            nn.ReLU(),
            nn.Linear(8, 8),
            nn.ReLU(),
            nn.Linear(8, 8),
            nn.ReLU(),
            nn.Linear(8, 8),
            nn.ReLU(),
            nn.Linear(8, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        loss = nn.functional.mse_loss(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        self.log("val_loss", nn.functional.mse_loss(self(x), y))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3, momentum=0.9)


def samples(n: int = 500) -> TensorDataset:
    """Draw the data set: x and y of shape (n, 1)."""
    x = 6 * torch.rand(n, 1) - 3
    return TensorDataset(x, x**2 - x - 1 + 0.2 * torch.randn(n, 1))


@torch.no_grad()
def out_of_step(model: Regression, loader: DataLoader, targets: Tensor, orders: int = 10) -> list[MutualInformation]:
    """The trap: activations in the order in which the loader shuffles them, targets in that of the data set."""
    passes = (torch.cat([model(x) for x, _ in loader]) for _ in range(orders))
    return [mutual_information(activations.numpy(), targets.numpy()) for activations in passes]


def report(monitor: MutualInformationMonitor, ceiling: MutualInformation, trap: list[MutualInformation]) -> str:
    """A table of first and last values by layer, below it the ceiling and the trap."""
    rows = {(row["quantity"], row["layer"], row["epoch"]): row for row in monitor.history.to_rows()}
    epochs = sorted({epoch for _, _, epoch in rows})
    first, last = epochs[0], epochs[-1]
    columns = [f"epoch {first}", f"epoch {last}", "std. error", "null band", "p", f"epoch {first}", f"epoch {last}"]
    lines = [f"{'bits':<20}{'I(T;Y)':>11}{'usable':>55}", _line("layer", columns)]
    for layer in monitor.history.layers:
        start, end = (rows["target", layer, epoch] for epoch in (first, last))
        usable = [f"{rows['usable', layer, epoch]['mi']:.2f}" for epoch in (first, last)]
        numbers = _numbers(end["mi"], end["stderr"], end["null_std"], end["p_value"])
        lines.append(_line(layer, [f"{start['mi']:.2f}", *numbers, *usable]))
    for name, estimates in (("ceiling I(X;Y)", [ceiling]), ("targets out of step", trap)):
        means = [fmean(getattr(e, field) for e in estimates) for field in ("mi", "stderr", "null_std", "p_value")]
        lines.append(_line(name, ["", *_numbers(*means)]))
    lines += [
        f"The ceiling by quadrature: {EXACT:.2f} bits. Usable: what a linear decoder gets out on held-out samples.",
        f"Null band: two standard deviations under permuted targets. Out of step: mean over {len(trap)} shuffles.",
    ]
    return "\n".join(lines)


def _numbers(mi: float, stderr: float, null_std: float, p_value: float) -> list[str]:
    return [f"{mi:.2f}", f"{stderr:.2f}", f"+-{2 * null_std:.2f}", f"{p_value:.3f}"]


def _line(name: str, cells: list[str]) -> str:
    return f"{name:<20}" + "".join(f"{cell:>11}" for cell in cells)


def main(argv: list[str] | None = None) -> MutualInformationMonitor:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=500)
    parser.add_argument("--measure-every", type=int, default=10, help="measure at the end of every so many epochs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log-dir", type=Path, default=Path("runs"))
    parser.add_argument("--images", type=Path, help="folder in which to keep the last figures as PNG files too")
    options = parser.parse_args(argv)
    started = time.perf_counter()

    L.seed_everything(options.seed, verbose=False)
    training, validation = random_split(samples(), [0.7, 0.3])
    loader = DataLoader(training, batch_size=32, shuffle=True)
    model = Regression()
    monitor = MutualInformationMonitor(every_n_epochs=options.measure_every)  # layers: every activation, and the output
    trainer = L.Trainer(
        max_epochs=options.epochs,
        logger=TensorBoardLogger(options.log_dir, name="regression"),
        callbacks=[monitor],
        accelerator="cpu",
        log_every_n_steps=10,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, loader, DataLoader(validation, batch_size=150))

    x, y = training[:]
    print(report(monitor, mutual_information(x.numpy(), y.numpy()), out_of_step(model, loader, y)))
    if options.images:
        save_figures(monitor, options.images)
    print(f"{time.perf_counter() - started:.0f} s. Look at the curves with\n    tensorboard --logdir {options.log_dir}")
    return monitor


def save_figures(monitor: MutualInformationMonitor, folder: Path) -> None:
    """Write the curves and the information plane as PNG files."""
    from mi_callback.reporting.figures import draw_figures

    folder.mkdir(parents=True, exist_ok=True)
    for tag, figure in draw_figures(monitor.history).items():
        figure.savefig(folder / f"regression_{tag.removeprefix('mi/')}.png", dpi=120)


if __name__ == "__main__":
    main()
