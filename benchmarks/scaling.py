"""What measuring costs where samples are many: seconds, in units of one plain FAISS search, and memory over the inputs.

python -m benchmarks.scaling                   # everything; some minutes
python -m benchmarks.scaling million images    # some parts

One unit is an ``IndexFlatL2`` search of 5,000 queries among 60,000 x 256 samples for 512 neighbours, timed in the same
process just before each part, so that a machine whose speed drifts is compared with itself.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np

from benchmarks.timing import machine

K, P, POINTS = 3, 100, 2_000


def unit() -> float:
    """Seconds of one search, the better of two."""
    import faiss

    x = np.random.default_rng(0).standard_normal((60_000, 256), dtype=np.float32)
    index = faiss.IndexFlatL2(256)
    index.add(x)
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        index.search(x[:5_000], 512)
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def told(name: str, seconds: float, target: float, one: float) -> None:
    print(f"{name}: {seconds:.1f} s, {seconds / one:.1f} units of {one:.2f} s (at most {target:g})", flush=True)


# --- one estimate -----------------------------------------------------------------------------------------------------


def sample(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """A layer of d features whose mean, scaled to unit variance, is read with noise: .347 nats."""
    rng = np.random.default_rng(n)
    x = rng.standard_normal((n, d), dtype=np.float32)
    return x, x.mean(axis=1) * np.sqrt(d) + rng.standard_normal(n, dtype=np.float32)


_MILLION = """
import sys, time
from benchmarks.scaling import K, P, POINTS, sample
from mi_callback import mutual_information
def peak():  # of this process alone: getrusage would hand down that of the parent
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
n, d = int(sys.argv[1]), int(sys.argv[2])
small = sample(20_000, d)
mutual_information(*small, k=K, n_permutations=2, n_points=500)  # compiled, imported
if n > 131_072:
    mutual_information(*sample(140_000, d), k=K, n_permutations=2, n_points=500)  # float32, too
x, y = sample(n, d)
before = peak()
began = time.perf_counter()
estimate = mutual_information(x, y, k=K, n_permutations=P, n_points=POINTS, unit="nats")
print(time.perf_counter() - began, (peak() - before) / 1e6, estimate.mi, estimate.stderr, estimate.space, sep="|")
"""


def one_estimate(n: int, d: int = 64) -> tuple[float, str]:
    """Seconds of one estimate by ``auto`` with its null, in a process of its own, and what it says."""
    command = [sys.executable, "-c", _MILLION, str(n), str(d)]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, gigabytes, mi, stderr, space = run.stdout.strip().split("|")
    said = f"peak {float(gigabytes):.2f} GB over the inputs, {float(mi):.3f} +- {float(stderr):.3f} nats in {space}"
    return float(seconds), said


def million() -> None:
    one = unit()
    seconds, said = one_estimate(1_000_000)
    told(f"1,000,000 x 64, continuous target, {POINTS:,} points, P = {P}, auto", seconds, 15, one)
    print("   ", said)


def growth() -> None:
    sizes = [50_000, 200_000, 1_000_000]
    seconds = [one_estimate(n)[0] for n in sizes]
    listed = ", ".join(f"{n:,}: {s:.1f} s" for n, s in zip(sizes, seconds, strict=True))
    print(f"growth at {POINTS:,} points: {listed}; {seconds[-1] / seconds[0]:.1f} times (at most 25)", flush=True)


# --- the callback -----------------------------------------------------------------------------------------------------


def trained(model: object, data: object, epochs: int, **arguments: object) -> tuple[object, list[dict[str, float]]]:
    """Train with a monitor: it, and the seconds by part of every measurement."""
    import lightning as L
    from torch.utils.data import DataLoader

    from mi_callback import MutualInformationMonitor

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    seconds: list[dict[str, float]] = []

    class Times(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            seconds.append(
                {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("mi_seconds/")}
                | {"clock": time.perf_counter()}
            )

    monitor = MutualInformationMonitor(**arguments)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = L.Trainer(
            max_epochs=epochs,
            callbacks=[monitor, Times()],
            default_root_dir=folder,
            logger=L.pytorch.loggers.CSVLogger(folder),
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        trainer.fit(model, DataLoader(data, batch_size=256, shuffle=True))
    return monitor, seconds


def classifier(body: object) -> object:
    import lightning as L
    import torch

    class Classifier(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.body(x)

        def training_step(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
            return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), 1e-3)

    return Classifier()


def digits(n: int) -> object:
    """Images of 784 pixels: ten smooth prototypes, shifted, scaled and noisy."""
    import torch
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    prototypes = np.stack([gaussian_filter(rng.standard_normal((28, 28)), 3) for _ in range(10)])
    prototypes /= prototypes.std(axis=(1, 2), keepdims=True)
    y = rng.integers(0, 10, n)
    shifts = rng.integers(-3, 4, (n, 2))
    images = np.empty((n, 28, 28), np.float32)
    for i in range(n):
        images[i] = np.roll(prototypes[y[i]], shifts[i], axis=(0, 1)) * rng.uniform(0.5, 1.5)
    images += rng.standard_normal(images.shape, dtype=np.float32)
    return torch.utils.data.TensorDataset(torch.from_numpy(images.reshape(n, 784)), torch.from_numpy(y))


def perceptron() -> object:
    from torch import nn

    return classifier(
        nn.Sequential(
            nn.Linear(784, 256),
            nn.ReLU(),
            nn.Linear(256, 128),
            nn.ReLU(),
            nn.Linear(128, 64),
            nn.ReLU(),
            nn.Linear(64, 10),
        )
    )


def images() -> None:
    one = unit()
    _, seconds = trained(perceptron(), digits(60_000), 2)
    for epoch, parts in enumerate(seconds):
        total = sum(v for k, v in parts.items() if k != "clock")
        listed = ", ".join(f"{k.removeprefix('mi_seconds/')} {v:.1f}" for k, v in parts.items() if k != "clock")
        told(f"60,000 x 784, 784-256-128-64-10, both planes, epoch {epoch} ({listed})", total, 8, one)


def budget() -> None:
    data = digits(20_000)
    _, seconds = trained(perceptron(), data, 10, budget=0.1)
    measured = [sum(v for k, v in parts.items() if k != "clock") for parts in seconds]
    whole = seconds[-1]["clock"] - seconds[0]["clock"]
    share = sum(measured[1:]) / whole
    print(
        f"budget .1, 20,000 x 784, ten epochs: {share:.3f} of the time behind the first epoch (at most .12)", flush=True
    )


def convolutions() -> None:
    import torch
    from torch import nn

    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((600, 3, 64, 64), dtype=np.float32))
    y = torch.from_numpy(rng.integers(0, 10, 600))
    body = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4_096, 10)
    )
    _, seconds = trained(classifier(body), torch.utils.data.TensorDataset(x, y), 2)
    for epoch, parts in enumerate(seconds):
        total = sum(v for k, v in parts.items() if k != "clock")
        print(f"600 images of 3 x 64 x 64, two convolutions and output, epoch {epoch}: {total:.1f} s (at most 15)")


PARTS = {"million": million, "growth": growth, "images": images, "convolutions": convolutions, "budget": budget}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="parts to run; all by default")
    options = parser.parse_args()
    print(machine())
    for part in options.parts or PARTS:
        PARTS[part]()


if __name__ == "__main__":
    main()
