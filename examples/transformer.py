"""A small transformer on sentences of a known language: which layer knows the next letter, and since when.

A sentence is one of four keys, and then fillers and letters in turn, six of each. A filler is any of 16. A letter is
the letter before, shifted by a number that belongs to the key, nine times in ten, and else any of 8. The model is
trained to predict the letter that follows each filler, as language models are, and is never told of the key. What
there is to know is exact:

- of the next letter from the filler alone, which is all that the embedding has: 0 bits;
- of the next letter from the letter before and the key, which is all there is: 2.33 bits;
- of the key from the whole sentence: 2 bits. Of the filler from itself: 4 bits.

Two monitors watch. positions="each" takes a random filler of each sentence, and measures it against the letter that
follows, I(T;Y), and against which filler it is, I(X;T). positions="mean" measures the mean of a sentence against its
key.

The loss says when the model has learnt the rule. The depth profile says how: the embedding of a filler never knows
anything, however long one trains; letter and key arrive in the blocks, at a depth and in an epoch that can be seen; and
usable information, beside the total, says which block has put them together to an answer that a linear reader takes.

    python examples/transformer.py --epochs 12 --log-dir runs --images examples/images
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

LETTERS, FILLERS, KEYS, PAIRS = 8, 16, 4, 6
RIGHT = 0.9  # share of letters that follow the rule
SHIFTS = torch.tensor([1, 2, 3, 5])  # of the keys


def sentences(n: int) -> TensorDataset:
    """Draw token ids (n, 12), the key first, and the letter that follows each filler (n, 12), elsewhere -100."""
    keys = torch.randint(KEYS, (n,))
    letter = torch.randint(LETTERS, (n,))
    tokens, following = [LETTERS + FILLERS + keys], [torch.full((n,), -100)]
    for i in range(PAIRS):
        follows, any_letter = torch.rand(n) < RIGHT, torch.randint(LETTERS, (n,))
        letter = torch.where(follows, (letter + SHIFTS[keys]) % LETTERS, any_letter)
        tokens += [LETTERS + torch.randint(FILLERS, (n,)), letter]
        following += [letter if i else torch.full((n,), -100), torch.full((n,), -100)]  # nothing tells the first letter
    return TensorDataset(torch.stack(tokens[:-1], dim=1), torch.stack(following[:-1], dim=1))


def truth() -> float:
    """Bits on the next letter from the letter before and the key."""
    p = np.full(LETTERS, (1 - RIGHT) / LETTERS)
    p[0] += RIGHT
    return float(np.log2(LETTERS) + (p * np.log2(p)).sum())


class Embedding(nn.Module):
    """Tokens and their places."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(LETTERS + FILLERS + KEYS, width)
        self.places = nn.Parameter(0.1 * torch.randn(2 * PAIRS, width))

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
        self.head = nn.Linear(width, LETTERS)

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
    columns = {
        "next letter": (tables[0], "target"),
        "usable": (tables[0], "usable"),
        "filler itself": (tables[0], "input"),
        "key, of the mean": (tables[1], "target"),
    }
    lines = [f"{'bits on':<11}" + "".join(f"{name:>18}" for name in columns)]
    lines.append(f"{'epoch':<11}" + f"{first:>11}{last:>7}" * len(columns))
    for layer in letters.history.layers:
        cells = (
            "".join(f"{table[epoch, layer, quantity]['mi']:>{width}.2f}" for epoch, width in ((first, 11), (last, 7)))
            for table, quantity in columns.values()
        )
        lines.append(f"{layer:<11}" + "".join(cells))
    lines.append(f"There is   {truth():>18.2f}{truth():>18.2f}{np.log2(FILLERS):>18.2f}{np.log2(KEYS):>18.2f}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> tuple[MutualInformationMonitor, MutualInformationMonitor]:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--measure-every", type=int, default=3)
    parser.add_argument("--sentences", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log-dir", type=Path, default=Path("runs"))
    parser.add_argument("--images", type=Path, help="folder in which to keep the depth profiles as PNG files too")
    options = parser.parse_args(argv)
    started = time.perf_counter()

    L.seed_everything(options.seed, verbose=False)
    layers = ["embedding", "blocks.*"]
    shared = {"layers": layers, "every_n_epochs": options.measure_every, "max_samples": 800, "n_permutations": 20}
    letters = MutualInformationMonitor(**shared, positions="each", name="letters")
    keys = MutualInformationMonitor(
        **shared,
        positions="mean",
        quantities=("target",),
        batch_fn=lambda batch: (batch[0], batch[0][:, 0] - LETTERS - FILLERS),
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
