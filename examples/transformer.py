"""A small transformer on sentences of a known language: which layer knows the next letter, and since when.

A sentence is one of four keys and nine letters of eight. Each letter is the one before, shifted by the key's number,
nine times in ten, and any letter else. How much there is to know is exact:

- of the next letter, from the letter before it alone: .64 bits, all that an embedding of single letters can hold;
- of the next letter, from the letter and the key: 2.25 bits, all that any layer can hold;
- of the key, from the whole sentence: 2 bits.

The model is trained to predict the next letter, as language models are, and is never told of the key. Two monitors
watch it: positions="each" measures a random letter of each sentence against the letter that follows it, and against
itself, I(X;T); positions="mean" measures the mean of a sentence against its key.

The loss says when the model has learnt the rule. The depth profile says how: when the key arrives at the letters, and in
which block; that the embedding never holds more than .64 bits however long one trains; and what becomes of the letter
itself, which the last block may forget once it has the next.

    python examples/transformer.py --epochs 30 --log-dir runs --images examples/images
"""

# ruff: noqa: D102 (the hooks are documented by Lightning)

from __future__ import annotations

import argparse
import time
from pathlib import Path

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mi_callback import MutualInformationMonitor

LETTERS, KEYS, LENGTH = 8, 4, 10
RIGHT = 0.9  # share of letters that follow the rule
SHIFTS = torch.tensor([1, 2, 3, 5])  # of the keys


def sentences(n: int) -> TensorDataset:
    """Draw token ids (n, 10), the key first, and the token that follows each (n, 10), -100 where there is no rule."""
    keys = torch.randint(KEYS, (n,))
    letters = [torch.randint(LETTERS, (n,))]
    while len(letters) < LENGTH:
        any_letter, follows = torch.randint(LETTERS, (n,)), torch.rand(n) < RIGHT
        letters.append(torch.where(follows, (letters[-1] + SHIFTS[keys]) % LETTERS, any_letter))
    tokens = torch.stack([LETTERS + keys, *letters], dim=1)
    following = tokens[:, 1:].clone()
    following[:, 0] = -100  # the first letter is any
    return TensorDataset(tokens[:, :-1], following)


def truths() -> tuple[float, float]:
    """Bits on the next letter from the letter before, and from letter and key."""
    by_key = np.full((KEYS, LETTERS), (1 - RIGHT) / LETTERS)
    by_key[np.arange(KEYS), SHIFTS] += RIGHT
    entropies = [-(p * np.log2(p)).sum() for p in (by_key.mean(axis=0), by_key[0])]
    return np.log2(LETTERS) - entropies[0], np.log2(LETTERS) - entropies[1]


class Embedding(nn.Module):
    """Tokens and their places."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(LETTERS + KEYS, width)
        self.places = nn.Parameter(0.1 * torch.randn(LENGTH, width))

    def forward(self, ids: Tensor) -> Tensor:
        return self.tokens(ids) + self.places[: ids.shape[1]]


class Transformer(L.LightningModule):
    """Three causal blocks of 32 units and 4 heads."""

    def __init__(self, width: int = 32, depth: int = 3) -> None:
        super().__init__()
        self.embedding = Embedding(width)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(depth)
        )
        self.head = nn.Linear(width, LETTERS + KEYS)

    def forward(self, ids: Tensor) -> Tensor:
        h = self.embedding(ids)
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
        for block in self.blocks:
            h = block(h, src_mask=mask, is_causal=True)
        return self.head(h)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        ids, following = batch
        loss = nn.functional.cross_entropy(self(ids).flatten(0, 1), following.flatten())
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def report(letters: MutualInformationMonitor, keys: MutualInformationMonitor) -> str:
    """First and last values of every layer beside what there is to know."""
    tables = [{(r["epoch"], r["layer"], r["quantity"]): r for r in m.history.to_rows()} for m in (letters, keys)]
    first, last = letters.history.epochs[0], letters.history.epochs[-1]
    lines = [f"{'bits on':<12}{'next letter':>18}{'the letter itself':>20}{'key, of the mean':>20}"]
    lines.append(f"{'epoch':<12}" + f"{first:>10}{last:>9}" * 3)
    for layer in letters.history.layers:
        cells = [
            f"{table[epoch, layer, quantity]['mi']:.2f}"
            for table, quantity in ((tables[0], "target"), (tables[0], "input"), (tables[1], "target"))
            for epoch in (first, last)
        ]
        lines.append(f"{layer:<12}" + "".join(f"{a:>10}{b:>9}" for a, b in zip(cells[::2], cells[1::2], strict=True)))
    alone, both = truths()
    lines.append(f"There is: {alone:.2f} by the letter alone, {both:.2f} by letter and key; of the letter up to 3; of the")
    lines.append(f"key {np.log2(KEYS):.0f}. The loss of the best possible model is {(3 - both) * np.log(2):.2f} nats.")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> tuple[MutualInformationMonitor, MutualInformationMonitor]:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--measure-every", type=int, default=3)
    parser.add_argument("--sentences", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log-dir", type=Path, default=Path("runs"))
    parser.add_argument("--images", type=Path, help="folder in which to keep the depth profiles as PNG files too")
    options = parser.parse_args(argv)
    started = time.perf_counter()

    L.seed_everything(options.seed, verbose=False)
    layers = ["embedding", "blocks.*"]
    shared = {"layers": layers, "every_n_epochs": options.measure_every, "max_samples": 1000, "n_permutations": 20}
    letters = MutualInformationMonitor(**shared, positions="each", name="letters")
    keys = MutualInformationMonitor(
        **shared,
        positions="mean",
        quantities=("target",),
        batch_fn=lambda batch: (batch[0], batch[0][:, 0] - LETTERS),
        name="keys",
    )
    trainer = L.Trainer(
        max_epochs=options.epochs + 1,
        logger=TensorBoardLogger(options.log_dir, name="transformer"),
        callbacks=[letters, keys],
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Transformer(), DataLoader(sentences(options.sentences), batch_size=50, shuffle=True))
    print(report(letters, keys))
    if options.images:
        options.images.mkdir(parents=True, exist_ok=True)
        for monitor in (letters, keys):
            figure = monitor.history.plot("profile")
            figure.savefig(options.images / f"transformer_{monitor.name}_depth.png", dpi=120)
    print(f"{time.perf_counter() - started:.0f} s. Look at the curves with\n    tensorboard --logdir {options.log_dir}")
    return letters, keys


if __name__ == "__main__":
    main()
