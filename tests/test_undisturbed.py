"""Training is the same to the last bit with and without the callback.

Evidence: every set-up is trained twice from one seed. Weights, buffers, optimiser states, logged metrics, loop state,
the states of loaders and data sets and the random state at the end are compared with ``torch.equal``; so are the
numbers of threads of torch, BLAS and OpenMP: how torch splits a sum, and so its last bits, depends on them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import faiss
import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint, StochasticWeightAveraging
from lightning.pytorch.loggers.logger import Logger
from threadpoolctl import threadpool_info
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, TensorDataset

from mi_callback import MutualInformationMonitor
from tests.models import QUIET, Net, loader, pairs, trainer

pytestmark = [pytest.mark.filterwarnings(rule) for rule in QUIET]


def logged(metrics) -> dict[str, float]:
    """What training logs; what the monitor logs is beside the point here."""
    return {name: float(value) for name, value in metrics.items() if "mi_" not in name}


class Memory(Logger):
    """Keeps what is logged by training."""

    def __init__(self):
        super().__init__()
        self.lines = []

    name, version = "memory", "0"

    def log_metrics(self, metrics, step=None):
        if kept := {name: value for name, value in logged(metrics).items() if name != "epoch"}:
            self.lines.append((step, kept))

    def log_hyperparams(self, params):
        pass


class Watch(lightning.Callback):
    """Keeps the metrics after each batch and epoch, of a trainer with or without a logger."""

    def __init__(self):
        self.lines = []

    def on_train_batch_end(self, trainer, *args):
        self.lines.append((trainer.global_step, logged(trainer.callback_metrics)))

    def on_train_epoch_end(self, trainer, pl_module):
        self.lines.append((trainer.global_step, logged(trainer.callback_metrics)))

    def on_validation_end(self, trainer, pl_module):
        self.lines.append((trainer.global_step, logged(trainer.callback_metrics)))


@dataclass
class Setup:
    """What is trained: fresh parts each time they are asked for."""

    model: Callable[[], lightning.LightningModule] = Net
    data: Callable[[], Any] = loader
    callbacks: Callable[[], list[lightning.Callback]] = list
    options: dict[str, Any] = field(default_factory=dict)
    monitor: dict[str, Any] = field(default_factory=dict)
    wrap: Callable[[Any], Any] = lambda model: model
    resume: bool = False


def monitor(**options):
    defaults = {"n_permutations": 2, "space": "scores", "on_error": "raise"}
    return MutualInformationMonitor(**(defaults | options))


def train(path, setup: Setup, callbacks: list[lightning.Callback], *, draws: bool = False) -> dict[str, Any]:
    """Train and return everything that training leaves behind. Figures are drawn only where there is a logger."""
    lightning.seed_everything(7)
    model, data, logger, watch = setup.model(), setup.data(), Memory(), Watch()
    options = {"max_epochs": 3, "logger": logger if draws else False} | setup.options
    path.mkdir(exist_ok=True)
    if setup.resume:
        first = trainer(path, *callbacks, *setup.callbacks(), watch, **(options | {"max_epochs": 1}))
        first.fit(model, data)
        first.save_checkpoint(path / "first.ckpt")
    run = trainer(path, *callbacks, *setup.callbacks(), watch, **options)
    run.fit(setup.wrap(model), data, **({"ckpt_path": path / "first.ckpt"} if setup.resume else {}))
    run.save_checkpoint(path / "last.ckpt")
    saved = torch.load(path / "last.ckpt", weights_only=False)
    loaders = run.fit_loop._combined_loader.flattened
    return {
        "weights": saved["state_dict"],
        "optimizers": saved["optimizer_states"],
        "schedulers": saved["lr_schedulers"],
        "loops": saved["loops"],
        "epoch": saved["epoch"],
        "step": saved["global_step"],
        "logged": [logger.lines, watch.lines],
        "callbacks": {k: v for k, v in saved["callbacks"].items() if "MutualInformation" not in k},
        "modes": {name: module.training for name, module in run.lightning_module.named_modules()},
        "attributes": {k: v for k, v in vars(run.lightning_module).items() if isinstance(v, int | float | str)},
        "stage": str(run.state.stage),
        "generators": [getattr(one, "generator", None) and one.generator.get_state() for one in loaders],
        "data": [getattr(getattr(one, "dataset", None), "state", None) for one in loaders],
        "random": [random.getstate(), np.random.get_state(), torch.get_rng_state()],  # noqa: NPY002
        "gradients": [p.requires_grad for p in run.lightning_module.parameters()],
    }


def threads() -> dict[str, Any]:
    """Numbers of threads that the calling thread would use."""
    return {
        "torch": torch.get_num_threads(),
        "faiss": faiss.omp_get_max_threads(),
        "libraries": {one["filepath"]: one["num_threads"] for one in threadpool_info()},
    }


def assert_equal(a: Any, b: Any, where: str = "") -> None:
    """Equal through and through; tensors and arrays to the last bit, NaN equal to NaN."""
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype, where
        assert torch.equal(a.nan_to_num(), b.nan_to_num()), where
    elif isinstance(a, np.ndarray):
        assert np.array_equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (one, other) in enumerate(zip(a, b, strict=True)):
            assert_equal(one, other, f"{where}[{i}]")
    else:
        assert a == b or (a != a and b != b), where


# ---------------------------------------------------------------------------------------------------------- data sets


class Augmented(Dataset):
    """Adds noise to its inputs, drawn in one of four ways."""

    def __init__(self, draw):
        self.x, self.y = pairs()
        self.draw = draw
        self.own = {
            "generator": torch.Generator().manual_seed(1),
            "numpy": np.random.default_rng(1),
            "legacy": np.random.RandomState(1),
            "python": random.Random(1),
            "count": 0,
        }

    def __len__(self):
        return len(self.x)

    @property
    def state(self):
        own = self.own
        return [
            own["generator"].get_state(),
            own["numpy"].bit_generator.state,
            own["legacy"].get_state(),
            own["python"].getstate(),
            own["count"],
        ]

    def __getitem__(self, i):
        self.own["count"] += 1
        noise = {
            "torch": lambda: torch.randn(2),
            "numpy": lambda: torch.as_tensor(np.random.randn(2), dtype=torch.float32),  # noqa: NPY002
            "python": lambda: torch.tensor([random.gauss(0, 1), random.gauss(0, 1)]),
            "own": lambda: (
                torch.randn(2, generator=self.own["generator"])
                + float(
                    self.own["numpy"].normal()
                    + self.own["legacy"].normal()
                    + self.own["python"].gauss(0, 1)
                    + self.own["count"] % 5
                )
            ),
        }[self.draw]()
        return self.x[i] + 0.1 * noise, self.y[i]


def augmented(draw, **options):
    return DataLoader(Augmented(draw), batch_size=16, shuffle=True, **options)


class Stream(IterableDataset):
    """Endless, with a position and a generator of its own."""

    def __init__(self):
        self.rng = np.random.default_rng(3)
        self.position = 0

    @property
    def state(self):
        return [self.rng.bit_generator.state, self.position]

    def __iter__(self):
        while True:
            self.position += 1
            x = torch.as_tensor(self.rng.normal(size=2), dtype=torch.float32)
            yield x, x[:1] + 0.1 * self.position


class StatefulLoader(DataLoader):
    """Counts the batches that it gave, and writes the number into checkpoints."""

    given = 0

    def __iter__(self):
        for batch in super().__iter__():
            self.given += 1
            yield batch

    def state_dict(self):
        return {"given": self.given}

    def load_state_dict(self, state):
        self.given = state["given"]


class Blocks(Sampler):
    """A batch sampler with a generator of its own."""

    def __init__(self):
        self.rng = np.random.default_rng(5)

    def __iter__(self):
        for block in np.array_split(self.rng.permutation(60), 5):
            yield block.tolist()

    def __len__(self):
        return 5


# ------------------------------------------------------------------------------------------------------------- models


class Attention(nn.Module):
    """Softmax over all features against the batch, and reductions over both."""

    def forward(self, x):
        return x * torch.softmax(x, dim=1) - x.mean(dim=0) / (1 + x.square().sum().sqrt())


def reducing() -> Net:
    """Wide layers of the kinds that sum in threads."""
    width = 256
    return Net(
        nn.Sequential(
            nn.Linear(16, width),
            nn.LayerNorm(width),
            nn.ReLU(),
            Attention(),
            nn.Linear(width, width),
            nn.LayerNorm(width),
            nn.Tanh(),
            nn.Linear(width, 1),
        )
    )


def normalised(dropout: float = 0.0) -> Net:
    return Net(
        nn.Sequential(
            nn.Linear(2, 8),
            nn.BatchNorm1d(8),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(8, 8),
            nn.ReLU(),
            nn.Linear(8, 1),
        )
    )


class FrozenNorm(Net):
    """Its batch normalisation stays in evaluation mode, as in fine-tuning."""

    def __init__(self):
        super().__init__()
        self.net = normalised().net
        self.net[1].requires_grad_(False).eval()

    def on_train_epoch_start(self):
        self.net[1].eval()


class Watching(Net):
    """A forward that logs, counts and writes into buffers, evaluating or not."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(2))

    def forward(self, x):
        self.seen += len(x)
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        self.log("activity", self.mean.sum())
        return self.net(x) + 0.01 * self.mean.sum()


class Manual(Net):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = nn.functional.mse_loss(self(x), y)
        self.optimizers().zero_grad()
        self.manual_backward(loss)
        self.optimizers().step()
        self.log("train_loss", loss)


class Validated(Net):
    """Validates, and steps its learning rate."""

    def val_dataloader(self):
        return DataLoader(TensorDataset(*pairs(20, seed=1)), batch_size=8)

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", nn.functional.mse_loss(self(x), y))

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), 0.05, momentum=0.9)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3)}


class Drawing(Validated):
    """Makes validation data of random numbers when it is asked, each time others, and draws more when they are read."""

    def val_dataloader(self):
        data = Augmented("torch")
        data.x = data.x + torch.randn_like(data.x)
        shared = torch.Generator().manual_seed(4)
        return [DataLoader(data, 16, shuffle=True, generator=shared), DataLoader(augmented("own").dataset, 16)]

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        super().validation_step(batch, batch_idx)


class Reloading(Net):
    """Makes its loader anew every epoch, with another seed."""

    def train_dataloader(self):
        return loader(generator=torch.Generator().manual_seed(self.current_epoch))


class OnDevice(Net):
    """Augments after the batch is on the device, as for a GPU, and counts its transfer hooks in training."""

    def on_before_batch_transfer(self, batch, dataloader_idx):
        return [batch[0] * 2, batch[1]]

    def on_after_batch_transfer(self, batch, dataloader_idx):
        x, y = batch
        return [x + 0.1 * torch.randn_like(x) if self.trainer.training else x, y]


class ByName(Net):
    def training_step(self, batch, batch_idx):
        return super().training_step(batch["a"] if isinstance(batch, dict) else batch[0], batch_idx)


class Caching(Net):
    """Keeps a tensor between calls and trains through it: it must not come from a pass without gradients."""

    def __init__(self):
        super().__init__()
        self.cache = None

    def forward(self, x):
        if self.cache is None or len(self.cache) != len(x):
            self.cache = torch.ones(len(x), 1)
        return self.net(x) * self.cache


class LogsLater(Net):
    """Logs outside its training step, which is compiled with the model."""

    def training_step(self, batch, batch_idx):
        return nn.functional.mse_loss(self(batch[0]), batch[1])

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.log("train_loss", outputs["loss"])


def compiled_part():
    model = Net()
    model.net = torch.compile(model.net, backend="eager")
    return model


def compiled_in_place():
    model = Net()
    model.net.compile(backend="eager")
    return model


TWO = {"a": 60, "b": 30}
BY_NAME = {"batch_fn": lambda batch: batch["a"]}

SETUPS = {
    "plain": Setup(),
    "two workers": Setup(data=lambda: loader(num_workers=2)),
    "persistent workers": Setup(data=lambda: loader(num_workers=1, persistent_workers=True)),
    "loader generator": Setup(data=lambda: loader(generator=torch.Generator().manual_seed(2))),
    "drop last": Setup(data=lambda: loader(drop_last=True)),
    "stateful loader": Setup(data=lambda: StatefulLoader(TensorDataset(*pairs()), batch_size=16, shuffle=True)),
    "batch sampler": Setup(data=lambda: DataLoader(TensorDataset(*pairs()), batch_sampler=Blocks())),
    "dict of loaders": Setup(ByName, lambda: {k: loader(n) for k, n in TWO.items()}, monitor=BY_NAME),
    "list of loaders": Setup(
        ByName, lambda: [loader(n) for n in TWO.values()], monitor={"batch_fn": lambda batch: batch[0]}
    ),
    "endless stream, limited batches": Setup(
        data=lambda: DataLoader(Stream(), batch_size=16), options={"limit_train_batches": 4}
    ),
    "endless stream, steps and max_samples": Setup(
        data=lambda: DataLoader(Stream(), batch_size=16),
        options={"max_steps": 9, "max_epochs": -1, "limit_train_batches": 3},
        monitor={"max_samples": 40},
    ),
    "stream in a worker": Setup(
        data=lambda: DataLoader(Stream(), batch_size=16, num_workers=1), options={"limit_train_batches": 4}
    ),
    **{
        f"augmented by {draw}": Setup(data=lambda draw=draw: augmented(draw))
        for draw in ("torch", "numpy", "python", "own")
    },
    **{
        f"augmented by {draw} in workers": Setup(data=lambda draw=draw: augmented(draw, num_workers=2))
        for draw in ("torch", "own")
    },
    **{
        f"reductions over {n} samples": Setup(reducing, lambda n=n: loader(n, 16, batch_size=n))
        for n in (120, 350, 1000)
    },
    "dropout": Setup(lambda: normalised(0.5)),
    "batch normalisation": Setup(normalised),
    "frozen batch normalisation": Setup(FrozenNorm),
    "forward with effects": Setup(Watching),
    "forward with a cache": Setup(Caching),
    "bf16-mixed": Setup(normalised, options={"precision": "bf16-mixed"}),
    "bf16-true": Setup(normalised, options={"precision": "bf16-true"}),
    "64-true": Setup(normalised, options={"precision": "64-true"}),
    "compiled submodule": Setup(compiled_part),
    "module compiled in place": Setup(compiled_in_place),
    "compiled model": Setup(LogsLater, wrap=lambda model: torch.compile(model, backend="eager")),
    "gradient accumulation": Setup(options={"accumulate_grad_batches": 3, "gradient_clip_val": 0.5}),
    "manual optimisation": Setup(Manual),
    "validation": Setup(Validated),
    "validation within epochs": Setup(Validated, options={"val_check_interval": 0.5}),
    "validation every two epochs": Setup(Validated, options={"check_val_every_n_epoch": 2}),
    "validation measured": Setup(Drawing, monitor={"data": ("train", "val")}),
    "validation measured before it is built": Setup(
        Drawing,
        options={"check_val_every_n_epoch": 2, "num_sanity_val_steps": 0},
        monitor={"data": "val"},
    ),
    "reloaded validation measured": Setup(
        Drawing, options={"reload_dataloaders_every_n_epochs": 1}, monitor={"data": ("train", "val")}
    ),
    "a loader of ones own measured": Setup(monitor={"data": {"other": augmented("own")}}),
    "reloaded loaders": Setup(Reloading, lambda: None, options={"reload_dataloaders_every_n_epochs": 1}),
    "transfer hooks": Setup(OnDevice),
    "resumed": Setup(normalised, resume=True),
    "limited batches": Setup(options={"limit_train_batches": 2}),
    "overfitted batches": Setup(options={"overfit_batches": 2}),
    "max_steps within an epoch": Setup(options={"max_steps": 6}),
    "weight averaging": Setup(
        normalised, callbacks=lambda: [StochasticWeightAveraging(1e-2, swa_epoch_start=1)], options={"max_epochs": 4}
    ),
    "several callbacks": Setup(
        Validated,
        callbacks=lambda: [
            EarlyStopping("val_loss", patience=1),
            LearningRateMonitor(),
            monitor(layers=["net.0"], unit="nats", name="nats"),
        ],
    ),
    "raised anomalies": Setup(options={"detect_anomaly": True, "deterministic": True}),
}
# Figures take nine tenths of the time, and know nothing but the history: in these set-ups they are drawn too. The last
# needs a logger.
DRAWN = {"plain", "validation", "several callbacks"}
SLOW = {name for name in SETUPS if "worker" in name or "reductions" in name} - {"two workers"} | DRAWN - {"plain"}


@pytest.mark.filterwarnings("ignore:.*sampler has shuffling enabled:UserWarning")
@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step:UserWarning")
@pytest.mark.filterwarnings("ignore:.*requested to overfit:UserWarning")
@pytest.mark.filterwarnings("ignore:.*infer the .batch_size. from an ambiguous:UserWarning")
@pytest.mark.filterwarnings("ignore:.*IterableDataset. has .__len__:UserWarning")
@pytest.mark.filterwarnings("ignore:.*Checkpoint directory.*exists:UserWarning")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in SETUPS]
)
def test_training_is_the_same_with_and_without(tmp_path, name):
    setup, draws = SETUPS[name], name in DRAWN
    without = train(tmp_path / "a", setup, [], draws=draws)
    before = threads()
    callback = monitor(**setup.monitor)
    measured = train(tmp_path / "b", setup, [callback], draws=draws)
    assert threads() == before
    assert_equal(without, measured)
    assert any(without["logged"])
    rows = callback.history.to_rows()
    assert len({row["epoch"] for row in rows}) >= 2
    assert all(np.isfinite(row["mi"]) for row in rows), "it was measured"


def test_the_comparison_sees_a_difference(tmp_path):
    """A callback that draws one number is caught, in training and at the end."""

    class Careless(lightning.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            torch.rand(1)

    setup = SETUPS["dropout"]
    without, careless = train(tmp_path / "a", setup, []), train(tmp_path / "b", setup, [Careless()])
    with pytest.raises(AssertionError, match="weights"):
        assert_equal(without, careless)


def test_checkpoints_written_by_others_are_the_same(tmp_path):
    """The files of ModelCheckpoint hold the same training, with and without the monitor's own state beside it."""
    files = []
    for part, callbacks in (("a", []), ("b", [monitor()])):
        lightning.seed_everything(0)
        keep = ModelCheckpoint(tmp_path / part, "{epoch}", save_top_k=-1)
        trainer(tmp_path, *callbacks, keep, max_epochs=2, enable_checkpointing=True).fit(Net(), loader())
        files.append([torch.load(tmp_path / part / f"epoch={epoch}.ckpt", weights_only=True) for epoch in (0, 1)])
    for one, other in zip(*files, strict=True):
        for key in ("state_dict", "optimizer_states", "loops", "global_step", "epoch"):
            assert_equal(one[key], other[key], key)
