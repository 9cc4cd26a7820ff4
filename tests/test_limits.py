"""The trainer's limits hold for measuring too, and what measuring takes of the training set is said."""

from __future__ import annotations

import lightning
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, SubsetRandomSampler, TensorDataset

from mi_callback import MutualInformationMonitor
from mi_callback.collection import CollectionError
from tests.models import QUIET, Net, loader, pairs, trainer

pytestmark = [pytest.mark.filterwarnings(rule) for rule in QUIET]


def monitor(**options):
    return MutualInformationMonitor(**({"n_permutations": 2, "space": "scores", "quantities": ("target",)} | options))


def measured(path, data=None, *, model=None, others=(), options=None, **trainer_options):
    """Epochs measured and the numbers of samples."""
    callback = monitor(**(options or {}))
    trainer(path, *others, callback, **trainer_options).fit(model or Net(), loader() if data is None else data)
    rows = callback.history.to_rows()
    return sorted({r["epoch"] for r in rows}), {r["n_samples"] for r in rows}


@pytest.mark.parametrize(
    ("trainer_options", "n_samples"),
    [
        ({}, 60),
        ({"limit_train_batches": 2}, 32),
        ({"limit_train_batches": 0.5}, 32),
        ({"overfit_batches": 2}, 32),
        ({"overfit_batches": 0.5}, 32),
    ],
)
@pytest.mark.filterwarnings("ignore:.*requested to overfit:UserWarning")
def test_limits_on_batches(tmp_path, trainer_options, n_samples):
    assert measured(tmp_path, **trainer_options) == ([0], {n_samples})


def test_overfitted_batches_are_the_ones_measured(tmp_path):
    trained = []

    class First(lightning.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            trained.append(batch[0])

    callback = monitor(quantities=("target", "input"), batch_fn=lambda batch: seen.append(batch[0]) or batch)
    seen = []
    run = trainer(tmp_path, First(), callback, overfit_batches=2)
    run.fit(Net(), DataLoader(TensorDataset(*pairs()), batch_size=16))
    assert torch.equal(torch.cat(seen[-2:]), torch.cat(trained))


def test_max_samples_is_reported(tmp_path):
    assert measured(tmp_path, options={"max_samples": 20}) == ([0], {20})


def test_a_subset_by_sampler_is_what_is_trained_on(tmp_path):
    data = DataLoader(TensorDataset(*pairs()), batch_size=16, sampler=SubsetRandomSampler(range(10, 50)))
    assert measured(tmp_path, data) == ([0], {40})


def test_a_trial_run_measures_nothing(tmp_path):
    assert measured(tmp_path, fast_dev_run=True) == ([], set())


class Validated(Net):
    def val_dataloader(self):
        return loader()

    def validation_step(self, batch, batch_idx):
        assert self.trainer.validating or self.trainer.sanity_checking


@pytest.mark.filterwarnings("ignore:.*val_dataloader.*shuffling:UserWarning")
def test_sanity_checks_and_validation_measure_nothing_more(tmp_path):
    assert measured(tmp_path, model=Validated(), num_sanity_val_steps=2, max_epochs=2) == ([0, 1], {60})


def test_training_that_stops_within_an_epoch_is_measured_at_its_end(tmp_path):
    assert measured(tmp_path, max_steps=6, max_epochs=9) == ([0, 1], {60})

    class Stop(lightning.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            trainer.should_stop = trainer.global_step == 5

    assert measured(tmp_path, others=[Stop()], max_epochs=9) == ([0, 1], {60})


class Endless(IterableDataset):
    def __iter__(self):
        generator = torch.Generator().manual_seed(0)
        while True:
            x = torch.randn(2, generator=generator)
            yield x, x[:1]


def test_an_endless_stream_needs_a_limit(tmp_path):
    data = DataLoader(Endless(), batch_size=16)
    with pytest.raises(CollectionError, match="Endless has no length"):
        measured(tmp_path, data, max_steps=3)
    assert measured(tmp_path, data, limit_train_batches=2) == ([0], {32})
    assert measured(tmp_path, data, max_steps=3, max_epochs=-1, options={"max_samples": 30}) == ([0], {30})


class Hooked(Net):
    """Standardises in a transfer hook, and augments in training on the device."""

    def __init__(self):
        super().__init__()
        self.stages = []

    def on_before_batch_transfer(self, batch, dataloader_idx):
        return [batch[0] * 10, batch[1]]

    def on_after_batch_transfer(self, batch, dataloader_idx):
        self.stages.append(self.trainer.training)
        return [batch[0] + (1000 if self.trainer.training else 0), batch[1]]


def inputs_seen(path, model, **options):
    seen = []
    callback = monitor(batch_fn=lambda batch: seen.append(batch[0]) or batch)
    run = trainer(path, callback, **options.pop("trainer", {}))
    run.fit(model, **options)
    return torch.cat(seen[-4:])


def test_batches_go_through_the_transfer_hooks_without_training_time_augmentation(tmp_path):
    model = Hooked()
    seen = inputs_seen(tmp_path, model, train_dataloaders=loader())
    assert torch.equal(seen, pairs()[0] * 10)
    assert model.stages[-4:] == [False] * 4
    assert sum(model.stages) == 4, "training had its augmentation"


class Module(lightning.LightningDataModule):
    def train_dataloader(self):
        return loader()

    def on_before_batch_transfer(self, batch, dataloader_idx):
        return [batch[0] * 3, batch[1]]


def test_the_data_modules_hooks_count_too(tmp_path):
    assert torch.equal(inputs_seen(tmp_path, Net(), datamodule=Module()), pairs()[0] * 3)


@pytest.mark.parametrize(("precision", "dtype"), [("64-true", torch.float64), ("bf16-true", torch.bfloat16)])
def test_the_model_gets_its_inputs_in_the_trainers_precision(tmp_path, precision, dtype):
    class Typed(Net):
        def forward(self, x):
            assert x.dtype == dtype
            return super().forward(x)

    callback = monitor(quantities=("target", "input"))
    trainer(tmp_path, callback, precision=precision).fit(Typed(), loader())
    assert np.isfinite([r["mi"] for r in callback.history.to_rows()]).all()


class TwoInputs(Net):
    """Takes two inputs, by position or by name."""

    def forward(self, a, b):
        return self.net(a - b)

    def training_step(self, batch, batch_idx):
        a, b, y = batch
        return torch.nn.functional.mse_loss(self(a, b=b), y)


@pytest.mark.parametrize(
    "batch_fn", [lambda batch: ((batch[0], batch[1]), batch[2]), lambda b: ({"b": b[1], "a": b[0]}, b[2])]
)
def test_models_of_several_inputs(tmp_path, batch_fn):
    x, y = pairs()
    data = DataLoader(TensorDataset(x, x + y, y), batch_size=16)
    callback = monitor(batch_fn=batch_fn, quantities=("target", "input"))
    trainer(tmp_path, callback).fit(TwoInputs(), data)
    assert np.isfinite([r["mi"] for r in callback.history.to_rows()]).all()
