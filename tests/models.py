"""Small Lightning models and trainers that the tests of collecting and of the callback share."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from mi_callback import MutualInformationMonitor

# What Lightning and torch say about tiny runs; everything else is an error, as in the whole suite.
QUIET = [
    "ignore:Measuring mutual information takes:RuntimeWarning",  # on a machine that is busy with other things
    "ignore:.*recommended to use .self.log..train_loss:UserWarning",
    "ignore:.torch.jit:DeprecationWarning",
    "ignore:.*does not have many workers:UserWarning",
    "ignore:.*smaller than the logging interval:UserWarning",
    "ignore:.*isinstance.treespec, LeafSpec.:FutureWarning",
    "ignore:.*The trainer has no logger:UserWarning",
    "ignore:.*can be set to improve your speed:UserWarning",
    "ignore:.*use of fork:DeprecationWarning",
    "ignore:.*module.s. in eval mode at the start:UserWarning",
]


class Net(lightning.LightningModule):
    """A small regression network: two hidden layers, squared loss, Adam.

    Args:
        net: the network; None for d-8-8-1 with ReLU.
        d: number of inputs.
    """

    def __init__(self, net: nn.Module | None = None, d: int = 2) -> None:
        super().__init__()
        self.net = net or nn.Sequential(nn.Linear(d, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, x: Tensor) -> Any:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = nn.functional.mse_loss(self(x), y)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 1e-2)


class Idle(Net):
    """Trains on nothing, so that what is measured has a known value.

    Args:
        net: the network; None gives back the inputs.
    """

    def __init__(self, net: nn.Module | None = None) -> None:
        super().__init__(net or nn.Identity())
        self.unused = nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.unused * 0


class Dicts(Dataset[dict[str, Tensor]]):
    """One dict a sample, of columns that all have one row a sample."""

    def __init__(self, **columns: Tensor) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns["y"])

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {name: column[i] for name, column in self.columns.items()}


def pairs(n: int = 60, d: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Inputs (n, d) and noisy targets (n, 1)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator)
    return x, x[:, :1] + 0.3 * torch.randn(n, 1, generator=generator)


def loader(n: int = 60, d: int = 2, *, batch_size: int = 16, **options: Any) -> DataLoader[Any]:
    """A shuffling training loader over ``pairs``."""
    return DataLoader(TensorDataset(*pairs(n, d)), batch_size=batch_size, shuffle=True, **options)


def trainer(path: Any, *callbacks: lightning.Callback, **options: Any) -> lightning.Trainer:
    """A quiet trainer on the CPU that writes below ``path``."""
    defaults: dict[str, Any] = {
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "log_every_n_steps": 1,
    }
    return lightning.Trainer(
        accelerator="cpu",
        devices=options.pop("devices", 1),
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=path,
        callbacks=list(callbacks),
        **(defaults | options),
    )


def one_epoch(
    path: Any, monitor: MutualInformationMonitor, model: lightning.LightningModule, data: Any
) -> tuple[dict[tuple[str, str], dict[str, Any]], lightning.Trainer]:
    """Rows of a seeded epoch by layer and quantity, and its trainer."""
    lightning.seed_everything(3, verbose=False)
    run = trainer(path, monitor)
    run.fit(model, data)
    return {(row["layer"], row["quantity"]): row for row in monitor.history.to_rows()}, run
