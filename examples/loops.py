"""The same network trained in four loops, measured in each by one line: plain torch, Fabric, accelerate, transformers.

Y = X² - X - 1 + 0.2 E, and 20 % of the samples are kept for validation. Each loop ends with the same table: what the
layers hold of training and of validation data. Measuring leaves no trace, so that a loop is one line longer, and
nothing else in it changes.

    python examples/loops.py --loop plain --epochs 50
"""

# ruff: noqa: D102 (forward is what it is)

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mi_callback import History, measure


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))


def loaders(n: int = 400) -> dict[str, DataLoader[Any]]:
    source = torch.Generator().manual_seed(1)
    x = 6 * torch.rand(n, 1, generator=source) - 3
    y = x**2 - x - 1 + 0.2 * torch.randn(n, 1, generator=source)
    kept = n // 5
    train, val = TensorDataset(x[kept:], y[kept:]), TensorDataset(x[:kept], y[:kept])
    return {"train": DataLoader(train, 32, shuffle=True), "val": DataLoader(val, 32)}


def plain(epochs: int, every: int) -> History:
    model, data, history = network(), loaders(), None
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for epoch in range(epochs):
        for x, y in data["train"]:
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), y).backward()
            optimizer.step()
        if epoch % every == 0:
            history = measure(model, data, epoch=epoch, history=history)
    assert history is not None
    return history


def fabric(epochs: int, every: int) -> History:
    import lightning as L

    runner, data, history = L.Fabric(accelerator="cpu", devices=1), loaders(), None
    model = network()
    model, optimizer = runner.setup(model, torch.optim.Adam(model.parameters(), 1e-2))
    batches = runner.setup_dataloaders(data["train"])
    for epoch in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            runner.backward(nn.functional.mse_loss(model(x), y))
            optimizer.step()
        if epoch % every == 0 and runner.global_rank == 0:
            history = measure(model, data, epoch=epoch, history=history)
    assert history is not None
    return history


def accelerate(epochs: int, every: int) -> History:
    from accelerate import Accelerator

    accelerator, data, history = Accelerator(cpu=True), loaders(), None
    model = network()
    model, optimizer, batches = accelerator.prepare(model, torch.optim.Adam(model.parameters(), 1e-2), data["train"])
    for epoch in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            accelerator.backward(nn.functional.mse_loss(model(x), y))
            optimizer.step()
        if epoch % every == 0 and accelerator.is_main_process:
            history = measure(model, data, epoch=epoch, history=history)
    assert history is not None
    return history


class WithLoss(nn.Module):
    """What Trainer asks of a model."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.net(x)
        return (
            {"logits": logits} if labels is None else {"loss": nn.functional.mse_loss(logits, labels), "logits": logits}
        )


def transformers(epochs: int, every: int) -> History:
    from transformers import Trainer, TrainingArguments

    from mi_callback.integrations.transformers import MutualInformationCallback

    samples = {name: [{"x": x, "labels": y} for x, y in loader.dataset] for name, loader in loaders().items()}
    callback = MutualInformationCallback(every_n_epochs=every, data=("train", "val"))
    args = TrainingArguments(
        "runs/transformers",
        num_train_epochs=epochs,
        per_device_train_batch_size=32,
        learning_rate=1e-2,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    Trainer(WithLoss(), args, train_dataset=samples["train"], eval_dataset=samples["val"], callbacks=[callback]).train()
    return callback.history


LOOPS = {loop.__name__: loop for loop in (plain, fabric, accelerate, transformers)}


def main(arguments: list[str] | None = None) -> History:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loop", choices=LOOPS, default="plain")
    parser.add_argument("--epochs", type=int, default=51)
    parser.add_argument("--every", type=int, default=10)
    options = parser.parse_args(arguments)
    history = LOOPS[options.loop](options.epochs, options.every)
    last = history.epochs[-1]
    print(
        f"{'I(T;Y) in bits':<16}"
        + "".join(f"{data + ', epoch ' + str(e):>18}" for data in history.data for e in (0, last))
    )
    for layer in history.layers:
        cells = [history.series("target", data=data)[layer].mi[at] for data in history.data for at in (0, -1)]
        print(f"{layer:<16}" + "".join(f"{cell:>18.2f}" for cell in cells))
    return history


if __name__ == "__main__":
    main()
