"""What measuring costs where samples are many: seconds, in units of one plain FAISS search, and memory over the inputs.

python -m benchmarks.scaling                   # everything; half an hour
python -m benchmarks.scaling million images    # some parts

One unit is an ``IndexFlatL2`` search of 5,000 queries among 60,000 x 256 samples for 512 neighbours, timed in the same
process just before each part, so that a machine whose speed drifts is compared with itself. Beside the seconds on the
clock stand those of all processors together, and their units: on a machine that others use, too, only those can be
trusted.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.collecting import peak_memory
from benchmarks.timing import machine

K, P, POINTS = 3, 100, 2_000


@dataclass(frozen=True)
class Seconds:
    """Seconds on the clock, and of all processors together."""

    clock: float
    processors: float

    def __str__(self) -> str:
        return f"{self.clock:.1f} s ({self.processors:.1f} s of processors)"

    @classmethod
    def of(cls, task: Callable[[], object]) -> Seconds:
        began, used = time.perf_counter(), time.process_time()
        task()
        return cls(time.perf_counter() - began, time.process_time() - used)

    def times(self, factor: float) -> Seconds:
        return Seconds(factor * self.clock, factor * self.processors)


def unit() -> Seconds:
    """One search, the better of two."""
    import faiss

    x = np.random.default_rng(0).standard_normal((60_000, 256), dtype=np.float32)
    index = faiss.IndexFlatL2(256)
    index.add(x)
    return min((Seconds.of(lambda: index.search(x[:5_000], 512)) for _ in range(2)), key=lambda one: one.clock)


def told(name: str, seconds: Seconds, target: float, one: Seconds) -> None:
    clock, processors = seconds.clock / one.clock, seconds.processors / one.processors
    print(
        f"{name}: {seconds}, {clock:.1f} units of {one} (at most {target:g}), of processors {processors:.1f}",
        flush=True,
    )


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
began, used = time.perf_counter(), time.process_time()
estimate = mutual_information(x, y, k=K, n_permutations=P, n_points=POINTS, unit="nats")
seconds = time.perf_counter() - began, time.process_time() - used
print(*seconds, (peak() - before) / 1e6, estimate.mi, estimate.stderr, estimate.space, sep="|")
"""


def one_estimate(n: int, d: int = 64) -> tuple[Seconds, str]:
    """Seconds of one estimate by ``auto`` with its null, in a process of its own, and what it says."""
    command = [sys.executable, "-c", _MILLION, str(n), str(d)]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    clock, processors, gigabytes, mi, stderr, space = run.stdout.strip().split("|")
    said = f"peak {float(gigabytes):.2f} GB over the inputs, {float(mi):.3f} +- {float(stderr):.3f} nats in {space}"
    return Seconds(float(clock), float(processors)), said


def million() -> None:
    one = unit()
    seconds, said = one_estimate(1_000_000)
    told(f"1,000,000 x 64, continuous target, {POINTS:,} points, P = {P}, auto", seconds, 15, one)
    print("   ", said)


def growth() -> None:
    sizes = [50_000, 200_000, 1_000_000]
    seconds = [one_estimate(n)[0] for n in sizes]
    listed = ", ".join(f"{n:,}: {s}" for n, s in zip(sizes, seconds, strict=True))
    clock, processors = seconds[-1].clock / seconds[0].clock, seconds[-1].processors / seconds[0].processors
    print(
        f"growth at {POINTS:,} points: {listed}; {clock:.1f} times (at most 25), of processors {processors:.1f}",
        flush=True,
    )


# --- others -----------------------------------------------------------------------------------------------------------

_PEER_ROWS, _NPEET_SAMPLES = 2_000, 5_000  # timed of the others, and scaled: whole they take hours


def peers() -> None:
    """Other estimators, each with a null of P permutations, scaled: by rows, and kd-trees by the square of n."""
    from benchmarks.peers import brute_force_torch, faiss_search_again, npeet
    from mi_callback import mutual_information
    from mi_callback.estimation.spaces import normal_scores

    for n in (50_000, 200_000):
        x, y = sample(n, 64)

        def ours(x: np.ndarray = x, y: np.ndarray = y) -> None:
            mutual_information(x, y, k=K, n_permutations=P)

        ours()
        own = Seconds.of(ours)
        print(f"n = {n:,}, d = 64, P = {P}: {own} by default arguments")
        scores, line = normal_scores(x), normal_scores(y[:, None])
        searched = {"FAISS, searched again": faiss_search_again, "brute force in torch": brute_force_torch}
        for name, peer in searched.items():
            once = Seconds.of(lambda peer=peer, s=scores, t=line: peer(s, t, K, _PEER_ROWS))
            scaled = once.times((1 + P) * n / _PEER_ROWS)
            print(
                f"  {name}: {once} for {_PEER_ROWS:,} of the samples, scaled to all and {1 + P} estimates "
                f"{scaled.clock / 3600:.1f} h, {scaled.processors / own.processors:,.0f} times our processor time",
                flush=True,
            )
        try:
            once = Seconds.of(lambda s=scores, t=line: npeet(s[:_NPEET_SAMPLES], t[:_NPEET_SAMPLES], K))
        except ImportError:
            print("  NPEET (npeet_plus) is not installed")
            continue
        scaled = once.times((1 + P) * (n / _NPEET_SAMPLES) ** 2)
        print(
            f"  NPEET (npeet_plus): {once} for a set of {_NPEET_SAMPLES:,}, scaled with the square of n and to {1 + P} "
            f"estimates {scaled.clock / 3600:.0f} h, {scaled.processors / own.processors:,.0f} times ours",
            flush=True,
        )


def pieces() -> None:
    """What larger sets are made of: products of distances at several widths, and an approximate index's recall."""
    import faiss

    from mi_callback.estimation.neighbors import NeighborTable, balance_rank, default_width
    from mi_callback.estimation.spaces import normal_scores

    rng = np.random.default_rng(0)
    for d in (64, 512, 2_048):
        n = 2**26 // d
        x = rng.standard_normal((n, d), dtype=np.float32)
        points = np.sort(rng.permutation(n)[:512])
        scores = normal_scores(x)
        scored = Seconds.of(lambda x=x: normal_scores(x))
        build = partial(NeighborTable.build, scores, default_width(n, K), unit_rank=balance_rank(n, K), points=points)
        table = Seconds.of(build)
        rate = 2 * len(points) * n * d / table.processors / 1e9
        print(
            f"{n:,} x {d}: normal scores {scored}, {scored.processors / n / d * 1e9:.1f} ns a value; table of "
            f"{len(points)} points {table}, {rate:.0f} GFLOP/s a core, all included",
            flush=True,
        )
    n, width = 200_000, default_width(200_000, K)
    x = normal_scores(sample(n, 64)[0]).astype(np.float32)
    queries = x[:: n // 500]
    flat = faiss.IndexFlatL2(64)
    flat.add(x)
    found: list[np.ndarray] = []
    exact = Seconds.of(lambda: found.append(flat.search(queries, width)[1]))
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(64), 64, 1_024)
    trained = Seconds.of(lambda: (index.train(x[:50_000]), index.add(x)))
    print(f"{n:,} x 64, {len(queries)} queries for {width:,}: exact {exact}; IVF of 1,024 lists, made in {trained}")
    for probes in (16, 64, 256):
        index.nprobe = probes
        near: list[np.ndarray] = []
        seconds = Seconds.of(lambda near=near: near.append(index.search(queries, width)[1]))
        recall = np.mean([len(np.intersect1d(a, b)) / width for a, b in zip(found[0], near[0], strict=True)])
        print(f"  {probes} lists a query: {seconds}, recall {recall:.3f}", flush=True)


# --- the callback -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """What one measurement took, and when it was over on the clock."""

    parts: dict[str, float]
    seconds: Seconds
    over: float

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:.1f}" for name, value in self.parts.items())


def trained(model: object, data: object, epochs: int, **arguments: object) -> tuple[object, list[Measured]]:
    """Train with a monitor: it, and what every measurement took."""
    import lightning as L
    from torch.utils.data import DataLoader

    from mi_callback import MutualInformationMonitor

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    measured: list[Measured] = []
    used = [0.0]

    class Before(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            used[0] = time.process_time()

    class After(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            parts = {
                name.removeprefix("mi_seconds/"): float(value)
                for name, value in trainer.callback_metrics.items()
                if name.startswith("mi_seconds/")
            }
            seconds = Seconds(sum(parts.values()), time.process_time() - used[0])
            measured.append(Measured(parts, seconds, time.perf_counter()))

    monitor = MutualInformationMonitor(**arguments)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = L.Trainer(
            max_epochs=epochs,
            callbacks=[Before(), monitor, After()],
            default_root_dir=folder,
            logger=L.pytorch.loggers.CSVLogger(folder),
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        trainer.fit(model, DataLoader(data, batch_size=256, shuffle=True))
    return monitor, measured


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
    _, measured = trained(perceptron(), digits(60_000), 2)
    for epoch, each in enumerate(measured):
        told(f"60,000 x 784, 784-256-128-64-10, both planes, epoch {epoch} ({each})", each.seconds, 8, one)


def budget() -> None:
    _, measured = trained(perceptron(), digits(20_000), 10, budget=0.1)
    share = sum(each.seconds.clock for each in measured[1:]) / (measured[-1].over - measured[0].over)
    listed = ", ".join(f"{each.seconds.clock:.1f}" for each in measured)
    print(
        f"budget .1, 20,000 x 784, ten epochs: {share:.3f} of the time behind the first epoch (at most .12); "
        f"each measurement, s: {listed}",
        flush=True,
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
    _, measured = trained(classifier(body), torch.utils.data.TensorDataset(x, y), 2)
    for epoch, each in enumerate(measured):
        print(f"600 images of 3 x 64 x 64, two convolutions and output, epoch {epoch}: {each.seconds} (at most 15 s)")


def residual_network(width: int = 32) -> tuple[object, list[str]]:
    """A network of the shape of ResNet-18, of so many channels at first, and its 17 layers behind convolutions."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, before: int, channels: int, stride: int) -> None:
            super().__init__()
            self.first = nn.Sequential(
                nn.Conv2d(before, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
            )
            self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))
            self.skip = nn.Identity()
            if before != channels or stride > 1:
                self.skip = nn.Sequential(nn.Conv2d(before, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))
            self.last = nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.second(self.first(x)) + self.skip(x))

    stem = nn.Sequential(nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU())
    blocks: list[nn.Module] = []
    for stage in range(4):
        channels = width * 2**stage
        before = width if stage == 0 else channels // 2
        blocks += [Block(before, channels, 1 if stage == 0 else 2), Block(channels, channels, 1)]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width * 8, 10))
    body = nn.Sequential(stem, nn.MaxPool2d(3, 2, 1), *blocks, head)
    names = ["body.0"] + [f"body.{2 + i}.{part}" for i in range(8) for part in ("first", "last")]
    return classifier(body), names


def colours(n: int) -> object:
    """Images of 3 x 32 x 32: ten smooth prototypes, shifted, scaled and noisy."""
    import torch
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    prototypes = np.stack([gaussian_filter(rng.standard_normal((3, 32, 32)), (0, 3, 3)) for _ in range(10)])
    prototypes /= prototypes.std(axis=(1, 2, 3), keepdims=True)
    y = rng.integers(0, 10, n)
    shifts = rng.integers(-3, 4, (n, 2))
    images = rng.standard_normal((n, 3, 32, 32), dtype=np.float32)
    for i in range(n):
        images[i] += np.roll(prototypes[y[i]], shifts[i], axis=(1, 2)) * np.float32(rng.uniform(0.5, 1.5))
    return torch.utils.data.TensorDataset(torch.from_numpy(images), torch.from_numpy(y))


def residual() -> None:
    import torch

    torch.manual_seed(0)
    model, layers = residual_network()
    monitor, measured = trained(model, colours(50_000), 1, layers=layers)
    rows = monitor.history.to_rows()  # type: ignore[attr-defined]
    failed = sum(not np.isfinite(row["mi"]) for row in rows)
    print(
        f"ResNet-18 of 32 channels, 50,000 x 3 x 32 x 32, {len(layers)} layers, both planes, one epoch: "
        f"{measured[0].seconds} ({measured[0]}), {len(rows)} rows, {failed} failed, peak of the process "
        f"{peak_memory() / 1e9:.1f} GB",
        flush=True,
    )


PARTS = {
    "million": million,
    "growth": growth,
    "images": images,
    "convolutions": convolutions,
    "budget": budget,
    "residual": residual,
    "peers": peers,
    "pieces": pieces,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="parts to run; all by default")
    options = parser.parse_args()
    print(machine())
    for part in options.parts or PARTS:
        PARTS[part]()


if __name__ == "__main__":
    main()
