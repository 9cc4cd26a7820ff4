"""Several processes give the numbers of one, and none is left waiting when another fails."""

from __future__ import annotations

import copy
import json
import tempfile
import warnings
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import numpy as np
import pytest
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from mi_callback import MutualInformationMonitor
from mi_callback.collection import (
    CollectionError,
    LightningHost,
    Processes,
    Together,
    check_strategy,
    join,
    select_layers,
    sweep,
)
from mi_callback.collection.distributed import gather
from mi_callback.estimation import estimator as estimator_module
from mi_callback.estimation import parallel
from tests.models import QUIET, Net, pairs, trainer

pytestmark = [pytest.mark.filterwarnings(rule) for rule in QUIET]

if not dist.is_available() or not dist.is_gloo_available():
    pytest.skip("torch without gloo", allow_module_level=True)


class Frozen(Net):
    """A network whose weights stay as they are, so that one process and several see the same network."""

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.0)


class Report(lightning.Callback):
    """Writes what each rank has to a file: processes share nothing else."""

    def __init__(self, path, monitor=None):
        self.path, self.monitor = path, monitor

    def on_train_end(self, trainer, pl_module):
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("mi_")}
        rows = self.monitor.history.to_rows() if self.monitor else []
        (self.path / f"{trainer.global_rank}.json").write_text(json.dumps({"metrics": metrics, "rows": rows}))


def fit(path, size, monitor, *callbacks, n=61, model=None, data=None, **options):
    """Train on ``size`` processes; what each rank reported, by rank."""
    path.mkdir(exist_ok=True)
    lightning.seed_everything(0)
    data = data or DataLoader(TensorDataset(*pairs(n)), batch_size=8, shuffle=True)
    strategy = {"strategy": "ddp_fork"} if size > 1 else {}
    run = trainer(path, monitor, *callbacks, Report(path, monitor), devices=size, **(strategy | options))
    run.fit(model or Frozen(), data)
    return [json.loads((path / f"{rank}.json").read_text()) for rank in range(size)]


def monitor(**options):
    return MutualInformationMonitor(**({"n_permutations": 3, "space": "scores"} | options))


def no_seconds(metrics):
    return {k: v for k, v in metrics.items() if not k.startswith("mi_seconds")}


class Validated(Frozen):
    def val_dataloader(self):
        return DataLoader(TensorDataset(*pairs(37, seed=1)), batch_size=8)

    def validation_step(self, batch, batch_idx):
        self(batch[0])


def test_several_processes_measure_validation_data_as_one(tmp_path):
    """37 validation samples, which Lightning pads to 38 for two processes; every value is that of a single process."""
    both, model = {"data": ("train", "val"), "layers": ["net.1"]}, Validated()
    one = fit(tmp_path / "one", 1, monitor(**both), model=copy.deepcopy(model))[0]
    several = fit(tmp_path / "several", 2, monitor(**both), model=model)
    assert {row["n_samples"] for row in one["rows"]} == {61, 37}
    for rank in several:
        assert [row | {"step": 0} for row in rank["rows"]] == [row | {"step": 0} for row in one["rows"]]
        assert no_seconds(rank["metrics"]) == no_seconds(one["metrics"])


@pytest.mark.parametrize("size", [2, 3])
def test_several_processes_give_the_numbers_of_one(tmp_path, size):
    """61 samples on 2 or 3 processes: uneven shards. Every value equals that of a single process, on every rank."""
    one = fit(tmp_path / "one", 1, monitor(), max_epochs=2)[0]
    several = fit(tmp_path / "several", size, monitor(), max_epochs=2)
    for rank in several:
        # Steps differ: each of several processes sees a part of the batches.
        assert [row | {"step": 0} for row in rank["rows"]] == [row | {"step": 0} for row in one["rows"]]
        assert no_seconds(rank["metrics"]) == no_seconds(one["metrics"])
        assert {"mi_seconds/sweep", "mi_seconds/estimate", "mi_seconds/figures"} <= rank["metrics"].keys()
    assert one["rows"][0]["n_samples"] == 61


def test_a_subset_is_the_same_on_several_processes(tmp_path):
    options = {"max_samples": 25, "quantities": ("target",)}
    one = fit(tmp_path / "one", 1, monitor(**options))[0]
    two = fit(tmp_path / "two", 2, monitor(**options))
    assert [r["mi"] for r in two[0]["rows"]] == [r["mi"] for r in one["rows"]]
    assert one["rows"][0]["n_samples"] == 25


def fit_to_three_targets(path, size, layers, n, **options):
    """Train a network of a layer "net.0", one "net.1" and an output of three dimensions; see ``fit``."""
    x, y = pairs(n)
    lightning.seed_everything(0)
    net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
    data = DataLoader(TensorDataset(x, torch.cat([y, x**2], dim=1)), batch_size=64, shuffle=True)
    return fit(path, size, monitor(layers=layers, **options), model=Frozen(net), data=data, max_epochs=2)


@pytest.mark.parametrize(
    ("layers", "size", "options"),
    [
        (["net.0"], 3, {"space": "supervised", "n_permutations": 9}),  # no layer for a rank of its own
        (["net.0", "net.1"], 2, {"space": "auto"}),  # the output is left over
    ],
)
def test_processes_share_out_the_points_of_layers_that_are_left_over(tmp_path, layers, size, options, monkeypatch):
    """Identity: at evaluation points every value is that of one process, to the last bit; and each rank finds some."""
    one = fit_to_three_targets(tmp_path / "one", 1, layers, 1_501, n_points=300, **options)[0]
    share = Together.share

    def counted(together, value):
        if value is not None and len(value) == 7:  # rows of a table
            with (tmp_path / f"rows {together.rank}").open("a") as file:
                file.write(f"{len(value[0])} ")
        return share(together, value)

    monkeypatch.setattr(Together, "share", counted)
    for rank in fit_to_three_targets(tmp_path / "several", size, layers, 1_501, n_points=300, **options):
        assert [row | {"step": 0} for row in rank["rows"]] == [row | {"step": 0} for row in one["rows"]]
    assert {row["n_points"] for row in one["rows"] if row["quantity"] == "target"} == {300}
    found = [np.array((tmp_path / f"rows {rank}").read_text().split(), int) for rank in range(size)]
    whole = sum(found)
    assert whole.max() == 300
    assert all((rows[whole == 300] > 0).all() and (rows[whole == 300] < 300).all() for rows in found)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("name", ["read_table", "subsample", "intrinsic_dimension"])
def test_a_shared_estimate_that_fails_on_one_process_keeps_none_waiting(tmp_path, rank, name, monkeypatch):
    """It is NaN on all, wherever it fails, and what comes after it is shared as if nothing had been."""
    whole = getattr(estimator_module, name)
    failed = []

    def fails_once(*arguments, **options):
        if getattr(parallel._own, "team", None) is not None and dist.get_rank() == rank and not failed:
            failed.append(True)
            raise MemoryError("on one of them")
        return whole(*arguments, **options)

    monkeypatch.setattr(estimator_module, name, fails_once)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reports = fit_to_three_targets(tmp_path / "two", 2, ["net.0", "net.1"], 301, n_points=60, n_permutations=2)
    values = {(row["epoch"], row["layer"], row["quantity"]): row["mi"] for row in reports[0]["rows"]}
    assert reports[0]["rows"] == reports[1]["rows"]
    missing = {key for key, value in values.items() if np.isnan(value)}
    assert missing == {(0, "output", "target")}


def test_training_on_two_processes_is_undisturbed(tmp_path):
    weights = []
    for callbacks in ([], [monitor()]):
        lightning.seed_everything(0)
        model = Net(nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.ReLU(), nn.Linear(8, 1)))
        run = trainer(tmp_path, *callbacks, devices=2, strategy="ddp_fork", max_epochs=2)
        run.fit(model, DataLoader(TensorDataset(*pairs()), batch_size=8, shuffle=True))
        weights.append(model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(*(w.values() for w in weights), strict=True))


def test_stopping_by_information_on_two_processes(tmp_path):
    stop = EarlyStopping("mi_target/output", mode="max", patience=1, min_delta=100.0, check_on_train_epoch_end=True)
    reports = fit(tmp_path / "two", 2, monitor(quantities=("target",)), stop, max_epochs=9)
    assert reports[0]["rows"] == reports[1]["rows"]
    assert max(row["epoch"] for row in reports[0]["rows"]) == 1


class Groups(lightning.Callback):
    """Writes how many process groups there are during and after a fit."""

    def __init__(self, path):
        self.path, self.seen = path, []

    def on_train_epoch_end(self, trainer, pl_module):
        self.seen.append(len(dist.distributed_c10d._world.pg_map))

    def teardown(self, trainer, pl_module, stage):
        self.seen.append(len(dist.distributed_c10d._world.pg_map))
        (self.path / f"groups{trainer.global_rank}.json").write_text(json.dumps(self.seen))


def test_the_process_group_ends_with_training(tmp_path):
    """Evidence: torch's own list."""
    fit(tmp_path, 2, monitor(), Groups(tmp_path))
    assert [json.loads((tmp_path / f"groups{rank}.json").read_text()) for rank in range(2)] == [[2, 1]] * 2


class Breaking(lightning.Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 2:
            raise RuntimeError("broken off")


def test_what_was_measured_before_a_process_broke_off_is_not_lost(tmp_path):
    """Evidence: the epochs before. Lightning calls no hook in a forked process that raises."""
    callback = monitor(quantities=("target",), layers=["net.1"])
    with pytest.raises(Exception, match="broken off"):
        fit(tmp_path, 2, callback, Breaking(), max_epochs=4)
    assert callback.history.epochs == [0, 1]


@pytest.fixture
def temporary(monkeypatch):
    """A folder for temporary files that no other test uses; short, since names of sockets in it may be."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield Path(folder)


def fit_and_compare(path, callback, strategy):
    """Train on two processes: the parent's history is that of the first child."""
    held = callback.history
    rows = fit(path, 2, callback, max_epochs=2, strategy=strategy)[0]["rows"]
    assert rows
    assert repr(json.loads(json.dumps(callback.history.to_rows()))) == repr(rows)
    assert held is callback.history
    assert set(callback.history.metrics) == {"train_loss"}


def test_the_process_that_forks_has_the_history(tmp_path, temporary):
    """A second fit in the parent is a run of its own, and nothing is left."""
    callback = monitor(quantities=("target",), layers=["net.1"])
    fit_and_compare(tmp_path, callback, "ddp_fork")
    fit(tmp_path, 2, callback)  # not looked at before the next
    fit(tmp_path, 1, callback)
    rows = [r for r in callback.history.to_rows() if r["layer"] == "net.1" and r["quantity"] == "target"]
    assert [r["run"] for r in rows] == [0, 0, 1, 2]
    assert not list(temporary.glob("mi_callback_*"))


@pytest.mark.slow
def test_the_process_that_spawns_has_the_history(tmp_path, temporary):
    """Lightning's own sending of callbacks, by pickle. One fit: its processes take ten seconds each to start."""
    fit_and_compare(tmp_path, monitor(quantities=("target",), layers=["net.1"]), "ddp_spawn")
    assert not list(temporary.glob("mi_callback_*"))


def test_a_copy_of_a_monitor_takes_nothing_from_the_other(tmp_path):
    first = monitor(quantities=("target",), layers=["net.1"])
    second = copy.deepcopy(first)
    fit(tmp_path, 2, first)
    assert len(second.history) == 0
    assert len(first.history) > 0


class Failing(Dataset):
    """One sample of one rank cannot be read after the first epoch."""

    def __init__(self, error):
        self.x, self.y = pairs(61)
        self.error = error

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        reading = torch.is_grad_enabled() is False
        if reading and i == 41:
            raise self.error
        return self.x[i], self.y[i]


@pytest.mark.parametrize("error", [RuntimeError("disk on fire"), CollectionError("odd")])
def test_a_rank_that_fails_in_the_sweep_does_not_leave_others_waiting(tmp_path, error):
    data = DataLoader(Failing(error), batch_size=8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reports = fit(tmp_path / "two", 2, monitor(), data=data, max_epochs=2)
    for report in reports:
        assert len(report["rows"]) > 0
        assert all(np.isnan(row["mi"]) for row in report["rows"])


class FailingEstimator(lightning.Callback):
    """Breaks estimating on one rank."""

    def on_train_epoch_end(self, trainer, pl_module):
        from mi_callback.monitoring.measuring import Measurer

        if trainer.global_rank == 1:

            def measure(*args: Any, **options: Any):
                raise MemoryError("no room")

            Measurer.measure = measure


def test_a_rank_that_fails_in_estimating_does_not_leave_others_waiting(tmp_path):
    """The layers of the other rank are still measured, those of the failing one are NaN everywhere."""
    model = Frozen()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lightning.seed_everything(0)
        callback = monitor()
        run = trainer(
            tmp_path, FailingEstimator(), callback, Report(tmp_path, callback), devices=2, strategy="ddp_fork"
        )
        run.fit(model, DataLoader(TensorDataset(*pairs(61)), batch_size=8))
    reports = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert str(reports[0]["rows"]) == str(reports[1]["rows"])
    failed = {row["layer"] for row in reports[0]["rows"] if np.isnan(row["mi"])}
    assert failed == {"net.3"}


def test_a_failure_that_is_to_be_raised_is_raised_on_all(tmp_path):
    data = DataLoader(Failing(RuntimeError("disk on fire")), batch_size=8)
    with pytest.raises(Exception, match="disk on fire"):
        fit(tmp_path / "two", 2, monitor(on_error="raise"), data=data)


def test_a_mistake_is_told_on_all_before_training(tmp_path):
    with pytest.raises(Exception, match="no module 'nothing'"):
        fit(tmp_path / "two", 2, monitor(layers=["nothing"]))


class Compare(lightning.Callback):
    """Gathers a sweep of all ranks and compares it with one that reads everything."""

    def on_train_epoch_end(self, trainer, pl_module):
        processes = join(trainer)
        layers = select_layers(pl_module, None)
        part = sweep(LightningHost(trainer, pl_module), layers, rank=processes.rank, world_size=processes.size)
        whole = sweep(LightningHost(trainer, pl_module), layers)
        both = gather(part, None, processes)
        assert both.n_samples == whole.n_samples == 61
        np.testing.assert_array_equal(both.inputs, whole.inputs)
        np.testing.assert_array_equal(both.targets[""], whole.targets[""])
        owned = processes.share(sorted(both.layers))
        assert sorted(chain(*owned)) == sorted(whole.layers)
        for label, values in both.layers.items():
            np.testing.assert_array_equal(values, whole.layers[label], strict=True)


class Mixed(Dataset):
    """Strings of different lengths as targets."""

    def __len__(self):
        return 61

    def __getitem__(self, i):
        return pairs(61)[0][i], "a" * (1 + i % 5)


class Careless(Frozen):
    def training_step(self, batch, batch_idx):
        return self(batch[0]).mean()


@pytest.mark.parametrize("data", [TensorDataset(pairs(61)[0], torch.arange(61)), Mixed()])
@pytest.mark.parametrize("size", [2, 3])
def test_what_is_gathered_is_what_one_process_reads(tmp_path, size, data):
    run = trainer(tmp_path, Compare(), devices=size, strategy="ddp_fork")
    run.fit(Careless(), DataLoader(data, batch_size=8, shuffle=True))


@pytest.mark.parametrize("strategy", [FSDPStrategy, DeepSpeedStrategy, ModelParallelStrategy])
def test_strategies_that_split_the_model_are_refused(strategy):
    instance = strategy.__new__(strategy)
    for world_size in (1, 4):
        with pytest.raises(CollectionError, match=rf"{strategy.__name__} is not supported.*strategy='ddp'"):
            check_strategy(SimpleNamespace(strategy=instance, world_size=world_size))
    check_strategy(SimpleNamespace(strategy=DDPStrategy(), world_size=4))


def test_a_single_process_shares_with_itself():
    assert Processes().share(3) == [3]
    error = ValueError("x")
    assert Processes().agree(error) is error
    assert Processes().agree(None) is None
