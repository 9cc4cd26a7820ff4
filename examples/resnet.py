"""A small ResNet on generated images: at which depth the mean of its maps tells texture, shape and place.

Each image of 3 x 16 x 16 pixels shows a square or a disc, on the left or on the right, smooth or striped, before noise.
Every one of these is told by the image for certain, so that the truth is exact: of each I(X;Y) = H(Y) = 1 bit, of the
eight classes together 3 bits. The network is trained on the eight classes; texture, shape and place are measured one by
one, as tasks of one target, against the mean over the pixels of every block, which is what a classifier at that depth
could use.

Accuracy is one number at the end. The depth profile says what it is made of: texture is there with the first
convolution and before any training; shape takes depth; and place, which a convolution does not change and a mean over
pixels wipes out, has to be turned into features by the edges of the image, block by block.

    python examples/resnet.py --epochs 12 --log-dir runs --images examples/images
"""

# ruff: noqa: D102 (the hooks are documented by Lightning)

from __future__ import annotations

import argparse
import time
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mi_callback import MutualInformationMonitor
from mi_callback.reporting.figures.depth_profile import depth_profile

TASKS = ("texture", "shape", "place")
SIZE = 16


def images(n: int) -> TensorDataset:
    """Draw images (n, 3, 16, 16) and the class of each, 4 texture + 2 shape + place."""
    texture, shape, place = torch.randint(2, (3, n))
    row, column = torch.arange(SIZE)[:, None], torch.arange(SIZE)[None]
    y = torch.randint(5, SIZE - 5, (n, 1, 1))
    x = torch.randint(4, 6, (n, 1, 1)) + (SIZE - 10) * place[:, None, None]
    down, right = (row - y).abs(), (column - x).abs()
    square, disc = torch.maximum(down, right) <= 3, down**2 + right**2 <= 14
    figure = torch.where(shape[:, None, None] == 0, square, disc)
    phase = torch.randint(2, (n, 1, 1))
    stripes = ((column + phase) % 2).expand(n, SIZE, SIZE) * 2.0 - 1
    paint = torch.where(texture[:, None, None] == 0, 0.0, stripes)
    pixels = torch.where(figure, 1 + paint, 0.0)[:, None] * (0.7 + 0.6 * torch.rand(n, 3, 1, 1))
    return TensorDataset(pixels + 0.3 * torch.randn(n, 3, SIZE, SIZE), 4 * texture + 2 * shape + place)


def tasks(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Inputs, and the three parts of the class."""
    x, y = batch
    return x, {"texture": y // 4, "shape": y // 2 % 2, "place": y % 2}


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()
        )
        self.second = nn.Sequential(nn.Conv2d(outside, outside, 3, 1, 1, bias=False), nn.BatchNorm2d(outside))
        self.shortcut = nn.Conv2d(inside, outside, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(self.first(x)) + self.shortcut(x))


class ResNet(L.LightningModule):
    """A stem, three blocks, the mean over pixels and a linear reader."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.blocks = nn.Sequential(Block(8, 12, 1), Block(12, 16, 2), Block(16, 24, 2))
        self.head = nn.Linear(24, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean(dim=(2, 3)))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        logits = self(x)
        loss = nn.functional.cross_entropy(logits, y)
        accuracy = (logits.argmax(dim=1) == y).float().mean()
        self.log_dict({"train_loss": loss, "accuracy": accuracy}, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def report(monitor: MutualInformationMonitor, accuracy: float) -> str:
    """First and last values of every layer and task."""
    rows = {(r["epoch"], r["layer"], r["quantity"]): r for r in monitor.history.to_rows()}
    first, last = monitor.history.epochs[0], monitor.history.epochs[-1]
    lines = [f"{'bits on':<10}" + "".join(f"{task:>16}" for task in TASKS)]
    lines.append(f"{'epoch':<10}" + f"{first:>10}{last:>6}" * len(TASKS))
    for layer in monitor.history.layers:
        cells = "".join(
            f"{rows[epoch, layer, f'target_{task}']['mi']:>{width}.2f}"
            for task in TASKS
            for epoch, width in ((first, 10), (last, 6))
        )
        lines.append(f"{layer:<10}{cells}")
    lines.append(f"{'There is':<10}" + f"{1:>16.2f}" * len(TASKS))
    lines.append(f"Accuracy of the last epoch, all classes together: {accuracy:.2f}.")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> MutualInformationMonitor:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--measure-every", type=int, default=3)
    parser.add_argument("--n-images", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log-dir", type=Path, default=Path("runs"))
    parser.add_argument("--images", type=Path, help="folder in which to keep the depth profile as a PNG file too")
    options = parser.parse_args(argv)
    started = time.perf_counter()

    L.seed_everything(options.seed, verbose=False)
    monitor = MutualInformationMonitor(
        layers=["stem", "blocks.*"],
        positions={"stem": "mean", "blocks.*": "mean"},
        batch_fn=tasks,
        quantities=("target",),
        every_n_epochs=options.measure_every,
        max_samples=800,
        n_permutations=20,
    )
    trainer = L.Trainer(
        max_epochs=options.epochs + 1,
        logger=TensorBoardLogger(options.log_dir, name="resnet"),
        callbacks=[monitor],
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(ResNet(), DataLoader(images(options.n_images), batch_size=50, shuffle=True))
    print(report(monitor, float(trainer.callback_metrics["accuracy"])))
    if options.images:
        options.images.mkdir(parents=True, exist_ok=True)
        figure = depth_profile(monitor.history, quantities=[f"target_{task}" for task in TASKS])
        figure.savefig(options.images / "resnet_depth.png", dpi=120)
    print(f"{time.perf_counter() - started:.0f} s. Look at the curves with\n    tensorboard --logdir {options.log_dir}")
    return monitor


if __name__ == "__main__":
    main()
