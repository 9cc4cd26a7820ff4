"""Ten saved checkpoints in one history: train first, measure later, on training and on test data.

A classifier of noisy digits (8 x 8 pixels, scikit-learn) is trained by a plain loop that only saves. The checkpoints
are then read one by one, and each is an epoch of the history: the curves say when a layer came to know the digit, and
the gap between training and test data where it learned by heart.

    python examples/checkpoints.py --folder runs/checkpoints
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mi_callback import History, measure

EPOCHS = [0, 1, 2, 4, 8, 12, 16, 24, 32, 40]  # that are saved


def network(hidden: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 16), nn.ReLU(), nn.Linear(16, 10))


def digits() -> dict[str, DataLoader]:
    from sklearn.datasets import load_digits

    x, y = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
    source = torch.Generator().manual_seed(0)
    x = x.float() / 16 + 0.1 * torch.randn(x.shape, generator=source)
    kept = torch.randperm(len(x), generator=source)
    parts = {"train": kept[:900], "test": kept[900:]}  # of one size: a gap is then no matter of their numbers
    return {name: DataLoader(TensorDataset(x[rows], y[rows]), batch_size=64) for name, rows in parts.items()}


def train(model: nn.Module, data: DataLoader, folder: Path) -> None:
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    folder.mkdir(parents=True, exist_ok=True)
    for epoch in range(EPOCHS[-1] + 1):
        for x, y in data:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        if epoch in EPOCHS:
            torch.save(model.state_dict(), folder / f"epoch_{epoch:03d}.pt")


def main(arguments: list[str] | None = None) -> History:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/checkpoints"))
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--permutations", type=int, default=100)
    parser.add_argument("--space", default="auto")
    options = parser.parse_args(arguments)
    data, model = digits(), network(options.hidden)
    train(model, data["train"], options.folder)

    history = None
    for path in sorted(options.folder.glob("epoch_*.pt")):
        model.load_state_dict(torch.load(path, weights_only=True))
        epoch = int(path.stem.removeprefix("epoch_"))
        history = measure(
            model,
            data,
            epoch=epoch,
            history=history,
            quantities=("target",),
            n_permutations=options.permutations,
            space=options.space,
        )
    assert history is not None
    history.save(options.folder / "history.json")
    history.plot().savefig(options.folder / "curves.png")
    history.plot("gap").savefig(options.folder / "gap.png")
    print(f"{'usable bits':<12}{'epoch':>6}" + "".join(f"{name:>10}" for name in history.data))
    for layer in history.layers:
        for at in (0, -1):
            cells = "".join(f"{history.series('usable', data=name)[layer].mi[at]:>10.2f}" for name in history.data)
            print(f"{layer:<12}{history.epochs[at]:>6}{cells}")
    return history


if __name__ == "__main__":
    main()
