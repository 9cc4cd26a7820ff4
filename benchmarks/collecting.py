"""What collecting costs: the sweep beside a plain evaluation pass over the same loader, and its peak memory.

Run ``python -m benchmarks.collecting``. The plain pass moves each batch as Lightning does and calls the model without
gradients in evaluation mode; the sweep also keeps X, Y and every layer. Between them stands what keeping costs by
itself: the plain pass with hooks that do nothing but copy each layer's output into an array made beforehand.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from mi_callback.collection import LightningHost, select_layers, sweep
from mi_callback.collection.layers import Layer


class Net(lightning.LightningModule):
    """A network whose passes are timed."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> Any:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self(batch[0]).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.0)


def peak_memory() -> int:
    """Peak resident memory since the last reset, in bytes; 0 where /proc does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def resident_memory() -> int:
    """Resident memory now, in bytes; resets the peak."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        return 0


class Samples(Dataset[Any]):
    """Samples that are read one by one, as from a data set of somebody's own."""

    def __init__(self, *tensors: torch.Tensor) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, i: int) -> tuple[torch.Tensor, ...]:
        return tuple(tensor[i] for tensor in self.tensors)


def plain_pass(
    trainer: lightning.Trainer, module: lightning.LightningModule, source: DataLoader[Any], kept: Sequence[Layer]
) -> None:
    """Evaluate the model over the data of a loader, copying the outputs of some layers."""
    start, arrays = 0, dict[int, torch.Tensor]()

    def copy(i: int, output: torch.Tensor) -> None:
        rows = output.flatten(1)
        if i not in arrays:
            arrays[i] = torch.empty(len(source.dataset), rows.shape[1])  # type: ignore[arg-type]
        arrays[i][start : start + len(rows)].copy_(rows)

    hooks = [
        layer.module.register_forward_hook(lambda module, args, output, i=i: copy(i, output))
        for i, layer in enumerate(kept)
        if layer.module is not None
    ]
    module.eval()
    with torch.no_grad():
        for batch in DataLoader(source.dataset, source.batch_size):
            with trainer.precision_plugin.forward_context():
                module(trainer.strategy.batch_to_device(batch)[0])
            start += len(batch[0])
    module.train()
    for hook in hooks:
        hook.remove()


class Timing(lightning.Callback):
    """Times plain passes and sweeps in turn."""

    def __init__(self, repeats: int) -> None:
        self.repeats = repeats
        self.plain: list[float] = []
        self.copied: list[float] = []
        self.swept: list[float] = []
        self.over = 0.0

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        layers = select_layers(pl_module, None)
        source = trainer.train_dataloader
        collected = sweep(LightningHost(trainer, pl_module), layers)  # memory of the passes below is warm
        arrays = [collected.inputs, *collected.targets.values(), *collected.layers.values()]
        returned = sum(array.nbytes for array in arrays if array is not None)
        del collected, arrays
        for _ in range(self.repeats):
            for times, kept in ((self.plain, ()), (self.copied, layers)):
                began = time.perf_counter()
                plain_pass(trainer, pl_module, source, kept)
                times.append(time.perf_counter() - began)
            before = resident_memory()
            began = time.perf_counter()
            collected = sweep(LightningHost(trainer, pl_module), layers)
            self.swept.append(time.perf_counter() - began)
            self.over = max(self.over, peak_memory() - before - returned)
            del collected
        self.returned = returned


def mlp(d: int, width: int, depth: int) -> nn.Module:
    """A perceptron with ReLU."""
    layers: list[nn.Module] = [nn.Linear(d, width), nn.ReLU()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 1))


def convolutional() -> nn.Module:
    """Three convolutions with pooling, and a linear readout."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 1),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    cases: dict[str, tuple[nn.Module, type[Dataset[Any]], tuple[int, ...], int]] = {
        "perceptron 64-256x3, 20,000 samples": (mlp(64, 256, 3), TensorDataset, (20_000, 64), 128),
        "the same, samples read one by one": (mlp(64, 256, 3), Samples, (20_000, 64), 128),
        "perceptron 64-1024x3, 10,000 samples": (mlp(64, 1024, 3), TensorDataset, (10_000, 64), 128),
        "convolutions on 16 x 16, 5,000 samples": (convolutional(), TensorDataset, (5_000, 1, 16, 16), 64),
    }
    print(f"{'':40}{'plain, s':>10}{'+ copies':>10}{'sweep, s':>10}{'ratio':>8}{'arrays, MB':>12}{'beyond, MB':>12}")
    for name, (net, kind, shape, batch_size) in cases.items():
        timing = Timing(options.repeats)
        with tempfile.TemporaryDirectory() as folder:
            trainer = lightning.Trainer(
                max_epochs=1,
                accelerator="cpu",
                devices=1,
                callbacks=[timing],
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                default_root_dir=folder,
            )
            data = kind(torch.randn(*shape), torch.randn(shape[0], 1))  # type: ignore[call-arg]
            trainer.fit(Net(net), DataLoader(data, batch_size=batch_size, shuffle=True))
        plain, copied, swept = (statistics.median(times) for times in (timing.plain, timing.copied, timing.swept))
        ratio = statistics.median(s / p for s, p in zip(timing.swept, timing.plain, strict=True))
        memory = f"{timing.returned / 1e6:12.1f}{timing.over / 1e6:12.1f}"
        print(f"{name:40}{plain:10.3f}{copied:10.3f}{swept:10.3f}{ratio:8.2f}{memory}")


if __name__ == "__main__":
    main()
