"""Validation and other data beside training data: every number where users look, and training as it was."""

from __future__ import annotations

import lightning
import numpy as np
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mi_callback import History, MutualInformationMonitor, measure
from mi_callback.collection import CollectionError, LightningHost
from tests.models import QUIET, Net, loader, pairs, trainer

pytestmark = [pytest.mark.filterwarnings(rule) for rule in QUIET]

PLAIN = {"n_permutations": 4, "space": "scores"}


def monitor(**options):
    return MutualInformationMonitor(**(PLAIN | options))


class Validated(Net):
    """Validates on ``val``: loaders as Lightning takes them."""

    def __init__(self, val):
        super().__init__()
        self.val = val

    def val_dataloader(self):
        return self.val() if callable(self.val) else self.val

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.log("val_loss", nn.functional.mse_loss(self(batch[0]), batch[1]))


def val(n=40, seed=1, **options):
    return DataLoader(TensorDataset(*pairs(n, seed=seed)), batch_size=16, **options)


def values(history, data):
    return {(r["epoch"], r["layer"], r["quantity"]): r["mi"] for r in history.to_rows() if r["data"] == data}


@pytest.mark.slow
def test_validation_data_are_measured_and_logged_beside_training_data(tmp_path):
    """Evidence: TensorBoard's own reader; the trained model measured by itself on both data sets."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    callback, model, logger = monitor(data=("train", "val")), Validated(val()), TensorBoardLogger(tmp_path)
    trainer(tmp_path, callback, max_epochs=2, logger=logger).fit(model, loader())
    history = callback.history
    assert history.data == ["train", "val"]
    alone = measure(model, {"train": loader(), "val": val()}, epoch=1, **PLAIN)
    for data, n in (("train", 60), ("val", 40)):
        known = values(history, data)
        assert {r["n_samples"] for r in history.to_rows() if r["data"] == data} == {n}
        assert values(alone, data) == pytest.approx({key: known[key] for key in values(alone, data)}, abs=1e-5)
        assert history.of_data(data).ceilings["log n"].value == pytest.approx(np.log2(n))
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    for data, part in (("train", ""), ("val", "_val")):
        for quantity in ("target", "usable", "input"):
            logged = events.Scalars(f"mi_{quantity}{part}/net.1")
            kept = [values(history, data)[epoch, "net.1", quantity] for epoch in (0, 1)]
            np.testing.assert_allclose([e.value for e in logged], kept, rtol=1e-5)
    for tag in ("mi_target_val_pvalue/output", "mi_input_val_stderr/net.3", "mi_dimension_val/net.3"):
        assert len(events.Scalars(tag)) == 2
    assert [image.step for image in events.Images("mi/gap")] == [3, 7]


def test_the_names_of_several_validation_loaders(tmp_path):
    for loaders, names in (
        ([val(30), val(20)], ["val_0", "val_1"]),
        ({"near": val(30), "far": val(20)}, ["val_near", "val_far"]),
        ([val(30)], ["val"]),
    ):
        callback = monitor(data="val", quantities=("target",), layers=["net.1"])
        trainer(tmp_path, callback).fit(Validated(loaders), loader())
        assert callback.history.data == names
        counts = [{r["n_samples"] for r in callback.history.to_rows() if r["data"] == name} for name in names]
        assert counts == [{30}, {20}][: len(names)]


def test_limits_and_reloaded_loaders_of_validation_are_kept(tmp_path):
    """The number of validation samples grows by epochs, of which the trainer's limit leaves half the batches."""
    made = []

    def grow():
        made.append(val(32 * (len(made) + 1)))
        return made[-1]

    callback = monitor(data="val", quantities=("target",), layers=["net.1"])
    options = {"reload_dataloaders_every_n_epochs": 1, "limit_val_batches": 0.5, "max_epochs": 2}
    trainer(tmp_path, callback, **options).fit(Validated(grow), loader())
    assert [r["n_samples"] for r in callback.history.to_rows() if r["layer"] == "net.1"][::2] == [16, 32]


def test_a_loader_of_ones_own_and_one_that_training_has(tmp_path):
    test = val(24, seed=5)
    callback = monitor(data={"train": "train", "test": test}, quantities=("target",), layers=["net.1"])
    trainer(tmp_path, callback).fit(Net(), loader())
    assert {r["data"]: r["n_samples"] for r in callback.history.to_rows()} == {"train": 60, "test": 24}
    callback = monitor(data=test, quantities=("target",), layers=["net.1"])
    run = trainer(tmp_path, callback)
    run.fit(Net(), loader())
    assert callback.history.data == ["data"]
    assert "mi_target_data/net.1" in run.callback_metrics
    assert "mi_target/net.1" not in run.callback_metrics


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("test", r"data='test'.*Expected 'train', 'val', several of them"),
        (("train", "train"), "Expected 'train', 'val'"),
        ((), "DataLoader"),
        ({}, "Expected"),
        ({"stderr": val()}, "cannot name a data set"),
        ({"a/b": val()}, "cannot name a data set"),
        (TensorDataset(*pairs()), "expected a DataLoader.*got TensorDataset"),
        ({"test": 3}, r"data\['test'\]: expected a DataLoader.*got int"),
    ],
)
def test_data_that_cannot_be(data, message):
    with pytest.raises(MisconfigurationException, match=message):
        MutualInformationMonitor(data=data)


def test_data_that_are_not_there_or_do_not_fit_are_errors_before_training(tmp_path):
    """Evidence: no step is taken."""
    wrong = DataLoader(TensorDataset(torch.randn(20, 7), torch.randn(20, 1)), batch_size=10)
    for data, model, message in (
        ("val", Net(), "'val' was asked for, and this trainer does not validate"),
        ({"test": wrong}, Net(), r"data 'test': the model could not be run over a first batch: RuntimeError.*\(10x7"),
        ({"test": [torch.zeros(3), "x", 3]}, Net(), "data 'test'"),
    ):
        run = trainer(tmp_path, monitor(data=data))
        with pytest.raises(CollectionError, match=message):
            run.fit(model, loader())
        assert run.global_step == 0


def test_a_model_without_values_is_an_error_of_its_own(tmp_path):
    model = Net()
    model.side = nn.Linear(2, 2, device="meta")
    model.net[0].register_buffer("gone", torch.zeros(1, device="meta"))
    run = trainer(tmp_path, monitor())
    with pytest.raises(CollectionError, match=r"got side.weight, side.bias, net.0.gone on the meta device"):
        LightningHost(run, model)


def test_the_last_picture_shows_the_last_loss(tmp_path, monkeypatch):
    """Evidence: what each drawing finds in the history; the loss of an epoch is that which Lightning logs for it."""
    drawn = []
    monkeypatch.setattr(
        "mi_callback.reporting.figures.draw_figures",
        lambda history: drawn.append({k: dict(v) for k, v in history.metrics.items()}) or {},
    )
    callback, logger = monitor(quantities=("target",), layers=["net.1"]), CSVLogger(tmp_path)
    trainer(tmp_path, callback, max_epochs=3, logger=logger).fit(Validated(val()), loader())
    lines = (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").read_text().splitlines()
    for name, tag in (("train_loss", "train_loss_epoch"), ("val_loss", "val_loss")):
        column = lines[0].split(",").index(tag)
        logged = [float(line.split(",")[column]) for line in lines[1:] if line.split(",")[column]]
        for seen, epochs in zip(drawn, (1, 2, 3), strict=True):
            assert list(seen[name].values()) == pytest.approx(logged[:epochs], rel=1e-5)


def test_classes_of_the_first_data_are_those_of_all(tmp_path):
    """Twenty balanced classes of a few validation samples each would be taken for numbers by themselves."""
    y = torch.arange(800) % 20
    x = y[:, None] + 0.3 * torch.randn(800, 2, generator=torch.Generator().manual_seed(0))
    parts = {"train": DataLoader(TensorDataset(x, y), 100), "val": DataLoader(TensorDataset(x[:61], y[:61]), 61)}
    history = measure(nn.Linear(2, 3), parts, quantities=("target",), **PLAIN)
    used = {r["data"]: r["estimator"] for r in history.to_rows() if r["quantity"] == "target"}
    assert used == {"train": "ross", "val": "ross"}
    with pytest.warns(UserWarning, match="takes the targets as numbers"):
        alone = measure(nn.Linear(2, 3), parts["val"], quantities=("target",), **PLAIN)
    assert {r["estimator"] for r in alone.to_rows() if r["quantity"] == "target"} == {"ksg"}


def test_a_resumed_run_goes_on_with_all_data(tmp_path):
    callback = monitor(data=("train", "val"), quantities=("target",), layers=["net.1"])
    run = trainer(tmp_path, callback)
    run.fit(Validated(val()), loader())
    run.save_checkpoint(tmp_path / "one.ckpt")
    second = monitor(data=("train", "val"), quantities=("target",), layers=["net.1"])
    trainer(tmp_path, second, max_epochs=2).fit(Validated(val()), loader(), ckpt_path=tmp_path / "one.ckpt")
    assert [(r["data"], r["epoch"]) for r in second.history.to_rows() if r["layer"] == "net.1"][::2] == [
        ("train", 0),
        ("val", 0),
        ("train", 1),
        ("val", 1),
    ]
    for path in ("all.json", "rows.csv"):
        second.history.save(tmp_path / path)
        read = History.load(tmp_path / path)
        assert repr(read.to_rows()) == repr(second.history.to_rows())
    assert History.load(tmp_path / "all.json").of_data("val").ceilings == second.history.of_data("val").ceilings


def test_a_layer_shows_the_gap_between_the_data(tmp_path):
    """Evidence: a network that is told its 40 training samples by heart knows more of them than of new ones."""
    callback, model = monitor(data=("train", "val"), quantities=("target",), every_n_epochs=100), Validated(val(400))
    model.net = nn.Sequential(nn.Linear(2, 256), nn.ReLU(), nn.Linear(256, 1))
    x, y = pairs(40)
    noise = torch.randn(40, 1, generator=torch.Generator().manual_seed(3))
    data = DataLoader(TensorDataset(x, 0.3 * y + noise), batch_size=40)
    trainer(tmp_path, callback, max_epochs=401, limit_val_batches=0.99, check_val_every_n_epoch=500).fit(model, data)
    (output,) = (line for line in callback.history.plot("gap").axes[1].lines if line.get_label() == "output")
    train, other = (callback.history.series("usable", data=name)["output"] for name in ("train", "val"))
    np.testing.assert_allclose(output.get_ydata(), train.mi - other.mi)
    assert output.get_ydata()[-1] > output.get_ydata()[0] + 0.5


def test_training_that_is_tried_out_says_that_nothing_is_measured(tmp_path, caplog):
    with caplog.at_level("INFO", "lightning.pytorch"):
        callback = monitor()
        lightning.Trainer(
            accelerator="cpu",
            fast_dev_run=True,
            enable_progress_bar=False,
            default_root_dir=tmp_path,
            callbacks=callback,
        ).fit(Net(), loader())
    told = [r.getMessage() for r in caplog.records if "mutual information" in r.getMessage().lower()]
    assert told == ["fast_dev_run measures no mutual information; it would be measured at net.1, net.3, output."]
    assert len(callback.history) == 0
