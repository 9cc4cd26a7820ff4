"""When measuring fails, training goes on, nothing is left behind, and each kind of failure is told once.

Evidence: each fault is injected where it would happen, at epoch 1 of 3; what must not change is compared before and
after the monitor's hook, and the weights with those of a run without it.
"""

from __future__ import annotations

import errno
import importlib
import math
import random
import re
import warnings

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader, TensorDataset

from mi_callback import MutualInformationMonitor
from tests.models import QUIET, Net, loader, pairs, trainer

pytestmark = [pytest.mark.filterwarnings(rule) for rule in QUIET]

SWEEP = "running the model over the training set"
# What fails: module, attribute, and what the message says was going on.
PLACES = {
    "batch": ("mi_callback.collection.sweep", "split_batch", SWEEP),
    "forward": ("mi_callback.collection.sweep", "call_model", SWEEP),
    "transfer": ("tests.test_faults", "Noted.on_after_batch_transfer", SWEEP),
    "rows": ("mi_callback.collection.recorder", "Recorder.start", SWEEP),
    "targets": ("mi_callback.monitoring.measuring", "Measurer.prepare", SWEEP),
    "estimator": ("mi_callback.estimation", "Estimator.estimate", "estimating"),
    "ceilings": ("mi_callback.monitoring.measuring", "Measurer.ceilings", "estimating the limits"),
    "figure": ("mi_callback.reporting.figures", "draw_figures", "drawing figures"),
    "logger": ("torch.utils.tensorboard.writer", "SummaryWriter.add_figure", "giving mi/.* to TensorBoardLogger"),
}
DRAWING = ("figure", "logger")
ERRORS = {
    "error": RuntimeError("something broke"),
    "memory": MemoryError("cannot allocate"),
    "disk": OSError(errno.ENOSPC, "No space left on device"),
}


def test_a_ceiling_that_cannot_be_measured_costs_no_other_value(tmp_path, monkeypatch):
    """I(X;Y) fails, as it did for distinct integers taken for classes: I(T;Y), I(X;T) and the decoder do not."""

    def broken(self, x, y):
        raise ValueError("inputs: a class of its own for each sample")

    monkeypatch.setattr("mi_callback.estimation.layer_estimator.LayerEstimator._of_the_data", broken)
    callback = MutualInformationMonitor(n_permutations=2, space="scores")
    with pytest.warns(RuntimeWarning, match="estimating the limits: inputs: a class of its own"):
        trainer(tmp_path, callback).fit(Net(), loader())
    rows = callback.history.to_rows()
    assert {r["quantity"] for r in rows} == {"target", "usable", "input"}
    assert np.isfinite([r["mi"] for r in rows]).all()
    assert set(callback.history.ceilings) == {"log n", "psi(n) - psi(k)"}


class Noted(Net):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        return batch


class Fault:
    """Makes one function fail while it is armed."""

    def __init__(self, monkeypatch, place, error):
        self.armed = False
        module, name, self.doing = PLACES[place]
        owner = importlib.import_module(module)
        *path, attribute = name.split(".")
        for part in path:
            owner = getattr(owner, part)
        original = getattr(owner, attribute)

        def fails(*args, **options):
            if self.armed:
                raise error
            return original(*args, **options)

        monkeypatch.setattr(owner, attribute, fails)


class Before(lightning.Callback):
    """Arms a fault at epoch 1, and notes what must not change."""

    def __init__(self, fault=None):
        self.fault, self.noted = fault, []

    def on_train_epoch_end(self, trainer, pl_module):
        self.noted.append(state(trainer, pl_module))
        if self.fault is not None:
            self.fault.armed = trainer.current_epoch == 1


class After(Before):
    def on_train_epoch_end(self, trainer, pl_module):
        self.noted.append(state(trainer, pl_module))
        if self.fault is not None:
            self.fault.armed = False


def state(trainer, pl_module):
    return {
        "modes": [module.training for module in pl_module.modules()],
        "stage": str(trainer.state.stage),
        "random": [random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()],  # noqa: NPY002
        "hooks": sum(len(module._forward_hooks) for module in pl_module.modules()),
        "gradients": torch.is_grad_enabled(),
        "log": "log" in vars(pl_module) or "log_dict" in vars(pl_module),
    }


def monitor(**options):
    return MutualInformationMonitor(**({"n_permutations": 2, "space": "scores"} | options))


def fit(path, *callbacks, draws=True, **options):
    """Train for three epochs; the model with a frozen part in evaluation mode. Drawing takes most of the time."""
    lightning.seed_everything(0)
    model = Noted()
    model.net[0].eval()
    run = trainer(path, *callbacks, **({"max_epochs": 3, "logger": draws and TensorBoardLogger(path)} | options))
    run.fit(model, loader())
    return run, model


def test_without_a_fault_nothing_is_told(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        fit(tmp_path, monitor())


@pytest.mark.parametrize(
    ("place", "kind"),
    [(p, "error") for p in PLACES]
    + [
        ("forward", "memory"),
        ("estimator", "memory"),
        ("logger", "disk"),
    ],
)
def test_a_fault_is_told_once_and_training_goes_on(tmp_path, monkeypatch, place, kind):
    plain = fit(tmp_path / "plain", draws=False)[1].state_dict()
    fault = Fault(monkeypatch, place, ERRORS[kind])
    draws = place in DRAWING or (place, kind) == ("estimator", "memory")
    before, after, callback = Before(fault), After(fault), monitor()
    message = rf"epoch 1.*while {fault.doing}: {re.escape(str(ERRORS[kind]))}"
    with pytest.warns(RuntimeWarning, match=message) as caught:
        run, model = fit(tmp_path / "faulty", before, callback, after, draws=draws)
    told = [w for w in caught if "failed in part" in str(w.message)]
    assert len(told) == (3 if place == "logger" else 1), "once a kind: here three figures"
    assert run.current_epoch == 3
    assert before.noted == after.noted
    assert all(torch.equal(a, b) for a, b in zip(plain.values(), model.state_dict().values(), strict=True))
    rows = callback.history.to_rows()
    lost = {r["epoch"] for r in rows if r["quantity"] in ("target", "input") and np.isnan(r["mi"])}
    assert lost == ({1} if place in ("batch", "forward", "transfer", "rows", "targets", "estimator") else set())
    epochs = [[(r["layer"], r["quantity"]) for r in rows if r["epoch"] == epoch] for epoch in range(3)]
    assert epochs[0] == epochs[1] == epochs[2], "a failed epoch has the same rows, of NaN"


@pytest.mark.parametrize("place", PLACES)
def test_on_error_raise_lets_it_through_and_still_restores(tmp_path, monkeypatch, place):
    fault = Fault(monkeypatch, place, ERRORS["error"])
    before = Before(fault)

    class Last(lightning.Callback):
        noted = None

        def on_exception(self, trainer, pl_module, exception):
            Last.noted = state(trainer, pl_module)

    with pytest.raises(RuntimeError, match="something broke"):
        fit(tmp_path, before, monitor(on_error="raise"), Last(), draws=place in DRAWING)
    assert before.noted[-1] == Last.noted


@pytest.mark.parametrize("place", ["forward", "estimator", "figure"])
def test_an_interrupt_stops_cleanly(tmp_path, monkeypatch, place):
    fault = Fault(monkeypatch, place, KeyboardInterrupt())
    before = Before(fault)

    class Last(lightning.Callback):
        noted = None

        def on_exception(self, trainer, pl_module, exception):
            assert isinstance(exception, KeyboardInterrupt)
            Last.noted = state(trainer, pl_module)

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(tmp_path, before, monitor(), Last(), draws=place in DRAWING)
    assert before.noted[-1] == Last.noted


def test_a_fault_at_every_epoch_is_told_once(tmp_path, monkeypatch):
    fault = Fault(monkeypatch, "forward", ERRORS["error"])

    class Arm(lightning.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            fault.armed = True

    with pytest.warns(RuntimeWarning, match=r"epoch 0\)") as caught:
        run, _ = fit(tmp_path, Arm(), monitor())
    assert len([w for w in caught if "failed in part" in str(w.message)]) == 1
    assert math.isnan(run.callback_metrics["mi_target/output"])


def test_one_layer_out_of_memory_leaves_the_others(tmp_path, monkeypatch):
    from mi_callback.collection.storage import Rows

    write = Rows.write

    def narrow(self, start, rows):
        if rows.shape[1] == 8:
            raise MemoryError("cannot allocate")
        write(self, start, rows)

    class Arm(lightning.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            monkeypatch.setattr(Rows, "write", narrow)

    callback = monitor()
    with pytest.warns(RuntimeWarning, match=r"layer net\.1, net\.3\): MemoryError while estimating"):
        fit(tmp_path, Arm(), callback, max_epochs=1)
    assert {r["layer"] for r in callback.history.to_rows() if np.isfinite(r["mi"])} == {"output"}


def test_a_fault_before_the_first_step_is_told_and_tried_again(tmp_path):
    class Slow(TensorDataset):
        """A store that is not there yet when training begins."""

        reads = 0

        def __getitem__(self, i):
            Slow.reads += 1
            if Slow.reads == 5:
                raise ConnectionError("not yet")
            return super().__getitem__(i)

    lightning.seed_everything(0)
    callback = monitor()
    with pytest.warns(RuntimeWarning, match="ConnectionError while running the model over a first batch: not yet"):
        trainer(tmp_path, callback).fit(Net(), DataLoader(Slow(*pairs()), batch_size=16))
    assert {r["layer"] for r in callback.history.to_rows()} == {"net.1", "net.3", "output"}


@pytest.mark.slow
def test_several_loggers_each_get_their_own_chance(tmp_path, monkeypatch):
    """One logger fails; the figures of the other are all there."""
    fault = Fault(monkeypatch, "logger", ERRORS["disk"])
    fault.armed = True
    loggers = [TensorBoardLogger(tmp_path / "a"), CSVLogger(tmp_path / "b")]
    with pytest.warns(RuntimeWarning, match="No space left"):
        fit(tmp_path, monitor(), logger=loggers)
    assert len(list((tmp_path / "b").rglob("*.png"))) == 9, "three figures at three epochs"
