"""The callback end to end: a network trains, and its layers' information appears where users look."""

from __future__ import annotations

import copy
import logging
import math
import warnings

import lightning
import numpy as np
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from scipy.integrate import trapezoid
from scipy.ndimage import gaussian_filter
from scipy.special import entr, ndtr
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mi_callback import MutualInformationMonitor, mutual_information
from mi_callback.collection import CollectionError, reduction
from mi_callback.monitoring.epoch import EpochMeasurer
from mi_callback.reporting import History, summary
from tests.models import QUIET, Net, loader, pairs, trainer

pytestmark = [pytest.mark.filterwarnings(rule) for rule in QUIET]

LAYERS = ["net.1", "net.3", "output"]


def monitor(**options):
    return MutualInformationMonitor(**({"n_permutations": 4, "space": "scores"} | options))


def fit(path, callback, model=None, data=None, *others, **options):
    run = trainer(path, callback, *others, **options)
    run.fit(model or Net(), data or loader())
    return run


def test_every_layer_quantity_and_epoch_is_in_history_and_in_the_event_file(tmp_path):
    """Evidence: TensorBoard's own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    callback = monitor()
    logger = TensorBoardLogger(tmp_path, name="run")
    fit(tmp_path, callback, max_epochs=3, logger=logger)
    rows = callback.history.to_rows()
    assert [(r["epoch"], r["layer"], r["quantity"]) for r in rows] == [
        (epoch, layer, quantity) for epoch in range(3) for layer in LAYERS for quantity in ("target", "usable", "input")
    ]
    assert [r["step"] for r in rows[::9]] == [3, 7, 11]
    assert {r["n_samples"] for r in rows} == {60}
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    for layer in LAYERS:
        parts = {"": "mi", "_low": "low", "_high": "high", "_raw": "raw", "_null_std": "null_std", "_pvalue": "p_value"}
        for name, key in parts.items():
            for quantity in ("target", "input"):
                logged = events.Scalars(f"mi_{quantity}{name}/{layer}")
                kept = [r for r in rows if r["layer"] == layer and r["quantity"] == quantity]
                np.testing.assert_allclose([e.value for e in logged], [r[key] for r in kept], rtol=1e-6)
                assert [e.step for e in logged] == [r["step"] for r in kept]
        kept = [r["intrinsic_dim"] for r in rows if r["layer"] == layer and r["quantity"] == "target"]
        logged = events.Scalars(f"mi_dimension/{layer}")
        np.testing.assert_allclose([e.value for e in logged], kept, rtol=1e-6)
    for tag in ("mi/information_plane", "mi/curves"):
        assert [image.step for image in events.Images(tag)] == [3, 7, 11]


def test_estimates_are_those_of_the_plain_function_on_the_models_values(tmp_path):
    callback, model = monitor(), Net()
    fit(tmp_path, callback, model)
    x, y = pairs()
    with torch.no_grad():
        t = model(x).numpy()
    options = {"n_permutations": 4, "space": "scores"}
    for quantity, partner in (("target", y), ("input", x)):
        row = next(r for r in callback.history.to_rows() if (r["layer"], r["quantity"]) == ("output", quantity))
        assert row["mi"] == pytest.approx(mutual_information(t, partner.numpy(), **options).mi, abs=1e-6)
    ceiling = callback.history.ceilings["I(X;Y)"]
    assert ceiling.value == pytest.approx(mutual_information(x.numpy(), y.numpy(), **options).mi, abs=1e-6)


@pytest.mark.parametrize(("n", "epochs"), [(1, [0, 1, 2, 3]), (2, [0, 2]), (3, [0, 3])])
def test_every_n_epochs(tmp_path, n, epochs):
    callback = monitor(every_n_epochs=n, quantities=("target",))
    fit(tmp_path, callback, max_epochs=4)
    assert sorted({r["epoch"] for r in callback.history.to_rows()}) == epochs


def test_stopping_and_checkpointing_by_information(tmp_path):
    callback = monitor(quantities=("target",), every_n_epochs=2)
    stop = EarlyStopping("mi_target/output", mode="max", patience=2, min_delta=100.0, check_on_train_epoch_end=True)
    keep = ModelCheckpoint(tmp_path, "{epoch}", monitor="mi_target/net.1", mode="max", save_top_k=1)
    run = fit(tmp_path, callback, None, None, stop, keep, max_epochs=6, enable_checkpointing=True)
    assert run.current_epoch == 3
    rows = [r for r in callback.history.to_rows() if (r["layer"], r["quantity"]) == ("net.1", "target")]
    assert keep.best_model_score == pytest.approx(max(r["mi"] for r in rows))
    assert stop.best_score == pytest.approx(
        next(r["mi"] for r in callback.history.to_rows() if (r["layer"], r["quantity"]) == ("output", "target"))
    )


class Validated(Net):
    def val_dataloader(self):
        return DataLoader(TensorDataset(*pairs(20, seed=1)), batch_size=20)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", nn.functional.mse_loss(self(batch[0]), batch[1]))


def test_stopping_and_checkpointing_beside_validation_as_documented(tmp_path, monkeypatch):
    """A failed measurement, NaN, does not end the run."""
    callback, model = monitor(), Validated()
    stop = EarlyStopping("mi_target/output", mode="max", check_on_train_epoch_end=True, check_finite=False)
    keep = ModelCheckpoint(tmp_path, monitor="mi_target/output", mode="max", save_on_train_epoch_end=True)
    measure = EpochMeasurer._sweep
    failing = lambda *args, **options: (  # noqa: E731
        _raise() if model.current_epoch == 1 and not options.get("max_batches") else measure(*args, **options)
    )
    monkeypatch.setattr(EpochMeasurer, "_sweep", failing)
    with pytest.warns(RuntimeWarning, match="epoch 1.*no data"):
        run = fit(tmp_path, callback, model, None, stop, keep, max_epochs=3, enable_checkpointing=True)
    assert run.current_epoch == 3
    assert keep.best_model_path
    assert callback.history.metrics["val_loss"].keys() == {0, 1, 2}
    assert callback.history.metrics["train_loss"].keys() == {0, 1, 2}


def _raise():
    raise OSError("no data")


def test_resumed_training_continues_the_curves(tmp_path):
    """Evidence: the same numbers as in one go, from a checkpoint that loads with weights_only."""
    whole = monitor()
    lightning.seed_everything(1)
    model = Net()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    data = DataLoader(TensorDataset(*pairs()), batch_size=16)
    fit(tmp_path, whole, model, data, max_epochs=4)
    model.load_state_dict(start)
    first, second = monitor(), monitor()
    run = fit(tmp_path, first, model, data, max_epochs=2)
    path = tmp_path / "half.ckpt"
    run.save_checkpoint(path)
    torch.load(path, weights_only=True)
    trainer(tmp_path, second, max_epochs=4).fit(Net(), data, ckpt_path=path)
    assert repr(second.history.to_rows()) == repr(whole.history.to_rows())  # repr: NaN equals itself
    assert second.history.ceilings == whole.history.ceilings


@pytest.mark.parametrize(("patience", "epochs"), [(3, 4), (10, 11), (30, 20)])
def test_a_patience_shorter_than_the_time_between_measurements_is_told(tmp_path, patience, epochs):
    """Evidence: Lightning's own count. The warning comes exactly where the run ends before a second measurement."""
    callback = monitor(quantities=("target",), layers=["net.1"], every_n_epochs=10)
    stop = EarlyStopping("mi_target/output", mode="max", patience=patience, min_delta=100.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = fit(tmp_path, callback, None, None, stop, max_epochs=20)
    told = [str(w.message) for w in caught if "EarlyStopping" in str(w.message)]
    assert run.current_epoch == epochs
    assert len(told) == (patience < 10)
    assert all("patience=3" in one and "every_n_epochs=10" in one and "Use patience=30" in one for one in told)
    assert len({r["epoch"] for r in callback.history.to_rows()}) == (1 if patience < 10 else 2)


def test_patience_counts_validations_where_stopping_looks_there(tmp_path):
    """Validation at every second epoch, measured at every fourth: two looks a measurement."""
    callback = monitor(quantities=("target",), layers=["net.1"], every_n_epochs=4)
    stop = EarlyStopping("mi_target/output", mode="max", patience=1, min_delta=100.0)
    with pytest.warns(UserWarning, match=r"it looks 2 times .*Use patience=2 to wait for 1"):
        run = fit(tmp_path, callback, Validated(), None, stop, max_epochs=8, check_val_every_n_epoch=2)
    assert run.current_epoch == 4
    stop = EarlyStopping("mi_target/output", mode="max", patience=2, min_delta=100.0)
    fit(tmp_path, callback, Validated(), None, stop, max_epochs=8, check_val_every_n_epoch=2)


def test_a_second_fit_is_a_run_of_its_own(tmp_path):
    """Evidence: two monitors that see one of the trainings each. Figures and table show the last run."""
    together, alone = monitor(), [monitor(), monitor()]
    for seed, callback in enumerate(alone):
        lightning.seed_everything(seed)
        start = Net()
        for one in (together, callback):
            lightning.seed_everything(seed)
            fit(tmp_path, one, copy.deepcopy(start), max_epochs=3 - seed)
    first, second = (callback.history for callback in alone)
    history = together.history
    assert [r["run"] for r in history.to_rows()] == [0] * len(first) + [1] * len(second)
    assert history.runs == [0, 1]
    assert history.epochs == second.epochs == [0, 1]
    assert repr([r | {"run": 0} for r in history.to_rows()]) == repr(first.to_rows() + second.to_rows())
    for run, one in enumerate((first, second)):
        assert repr(history.of_run(run).metrics) == repr(one.metrics)
        np.testing.assert_array_equal(history.series("target", run=run)["output"].mi, one.series("target")["output"].mi)
    assert summary(history) == summary(second)
    assert repr(together.evidence.state_dict()) == repr(alone[1].evidence.state_dict())


def test_training_that_goes_on_is_the_same_run(tmp_path):
    """With the same trainer, and from a checkpoint of the second run, which holds the first as well."""
    callback = monitor(quantities=("target",), layers=["net.1"])
    model, data = Net(), loader()
    fit(tmp_path, callback, Net())
    run = fit(tmp_path, callback, model, data)
    run.save_checkpoint(tmp_path / "one.ckpt")
    run.fit_loop.max_epochs = 2
    run.fit(model, data)
    measured = [(r["run"], r["epoch"]) for r in callback.history.to_rows() if (r["layer"], r["quantity"]) == OUTPUT]
    assert measured == [(0, 0), (1, 0), (1, 1)]
    resumed = monitor(quantities=("target",), layers=["net.1"])
    trainer(tmp_path, resumed, max_epochs=3).fit(Net(), data, ckpt_path=tmp_path / "one.ckpt")
    measured = [(r["run"], r["epoch"]) for r in resumed.history.to_rows() if (r["layer"], r["quantity"]) == OUTPUT]
    assert measured == [(0, 0), (1, 0), (1, 1), (1, 2)]


OUTPUT = ("output", "target")


def test_resuming_with_other_arguments_says_what_is_left_out(tmp_path):
    data = loader()
    run = fit(tmp_path, monitor(layers=["net.1"], quantities=("target",)), None, data)
    path = tmp_path / "one.ckpt"
    run.save_checkpoint(path)
    other = monitor(layers=["net.3"], k=5, quantities=("target",))
    again = trainer(tmp_path, other, max_epochs=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        again.fit(Net(), data, ckpt_path=path)
    told = [str(w.message) for w in caught if "left out" in str(w.message)]
    assert len(told) == 1
    assert "was measured with layers=['net.1'], k=3, and is now measured with layers=['net.3'], k=5" in told[0]
    assert {r["epoch"] for r in other.history.to_rows()} == {1}
    debiased = monitor(layers=["net.1"], quantities=("target",), n_permutations=0)
    with pytest.warns(UserWarning, match=r"with n_permutations=4 before the checkpoint.*n_permutations=0.*comparable"):
        trainer(tmp_path, debiased, max_epochs=2).fit(Net(), data, ckpt_path=path)
    assert {r["epoch"] for r in debiased.history.to_rows()} == {0, 1}


def test_testing_an_earlier_checkpoint_leaves_the_history_whole(tmp_path):
    """Lightning restores callbacks for testing too."""

    class Tested(Net):
        def test_step(self, batch, batch_idx):
            self(batch[0])

    callback = monitor(quantities=("target",), layers=["net.1"])
    keep = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1)
    run = fit(tmp_path, callback, Tested(), None, keep, max_epochs=3, enable_checkpointing=True)
    assert callback.history.epochs == [0, 1, 2]
    run.test(Tested(), DataLoader(TensorDataset(*pairs())), ckpt_path=tmp_path / "epoch=0.ckpt")
    assert callback.history.epochs == [0, 1, 2]


def test_what_is_not_measured_outside_training_is_said_once(tmp_path, caplog):
    callback = monitor()
    run = trainer(tmp_path, callback)
    with caplog.at_level(logging.INFO):
        run.validate(Validated())
        run.validate(Validated())
    assert caplog.text.count("trainer.validate measures nothing") == 1
    assert len(callback.history) == 0


def test_a_verdict_that_nothing_decides_says_why(tmp_path):
    """A deterministic layer of a continuous input; nothing asked for; nothing measured."""
    callback = monitor()
    assert callback.verdicts() == {}
    fit(tmp_path, callback)
    verdicts = callback.verdicts()
    assert list(verdicts) == LAYERS
    assert {verdict.kind for verdict in verdicts.values()} == {"undecided"}
    assert "is infinite" in str(verdicts["net.1"])
    assert "Set noise_std" in verdicts["net.1"].reason
    callback = monitor(quantities=("target",))
    fit(tmp_path, callback)
    assert "Include 'input' in quantities" in str(callback.verdicts()["output"])


@pytest.mark.slow
def test_several_monitors_keep_apart(tmp_path):
    """Same layers, other samples. Evidence: what each has in its history is under its own tags, in the files too."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.custom_scalar import layout_pb2

    logger = TensorBoardLogger(tmp_path, name="run")
    options = {"layers": ["net.1"], "quantities": ("target",)}
    few, many = monitor(name="few", max_samples=30, **options), monitor(name="many", **options)
    run = fit(tmp_path, few, None, None, many, logger=logger)
    for callback in (few, many):
        (row,) = [r for r in callback.history.to_rows() if (r["layer"], r["quantity"]) == ("output", "target")]
        assert run.callback_metrics[f"{callback.name}/mi_target/output"] == pytest.approx(row["mi"])
    assert not [tag for tag in run.callback_metrics if tag.startswith("mi_")]
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    assert {"few/mi/curves", "many/mi/curves"} <= set(events.Tags()["images"])
    (written,) = events.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(written.tensor_proto.string_val[0])
    assert [tag for chart in layout.category[0].chart for tag in chart.multiline.tag] == [
        f"{name}/mi_{quantity}/.*" for name in ("few", "many") for quantity in ("target", "usable")
    ]
    path = tmp_path / "two.ckpt"
    run.save_checkpoint(path)
    for callback in (few, many):
        loaded = History.load(path, monitor=f"'name': '{callback.name}'")
        assert repr(loaded.to_rows()) == repr(callback.history.to_rows())


@pytest.mark.parametrize("others", [{}, {"layers": ["net.1"]}, {"name": "a"}])
def test_monitors_of_one_name_are_refused(tmp_path, others):
    """Alike or not, they would write to the same tags. Evidence: the message says what to do."""
    name = others.get("name")
    with pytest.raises(
        MisconfigurationException, match=rf"2 MutualInformationMonitors have name={name!r}.*name='wide'"
    ):
        fit(tmp_path, monitor(name=name), None, None, monitor(**others))


@pytest.mark.parametrize("name", ["", "a/b", "a b", 3])
def test_a_name_that_is_no_part_of_a_tag_is_refused(name):
    with pytest.raises(MisconfigurationException, match=r"name=.*Expected None, or letters"):
        MutualInformationMonitor(name=name)


def test_classes(tmp_path):
    """Integers are classes, whatever their shape; H(Y) is a ceiling; discrete_target overrides."""
    x, y = pairs()
    labels = (y[:, 0] > 0).long()
    one_hot = nn.functional.one_hot(labels, 2)
    values = {}
    for name, target, option in (
        ("int", labels, None),
        ("bool", labels.bool(), None),
        ("column", labels[:, None], None),
        ("one-hot", one_hot, None),
        ("float one-hot", one_hot.float(), True),
        ("float", labels.float(), True),
    ):
        callback = monitor(discrete_target=option)
        lightning.seed_everything(0)
        fit(tmp_path, callback, Labelled(), DataLoader(TensorDataset(x, target), batch_size=16))
        row = callback.history.to_rows()[0]
        assert row["estimator"] != "ksg"
        values[name] = row["mi"]
        share = labels.float().mean().item()
        assert callback.history.ceilings["H(Y)"].value == pytest.approx(
            -share * math.log2(share) - (1 - share) * math.log2(1 - share)
        )
    assert len(set(values.values())) == 1, values
    callback = monitor(discrete_target=False)
    fit(tmp_path, callback, Labelled(), DataLoader(TensorDataset(x, one_hot), batch_size=16))
    assert callback.history.to_rows()[0]["estimator"] == "ksg"


class Labelled(Net):
    """A training step that needs no more than the inputs."""

    def training_step(self, batch, batch_idx):
        return self(batch[0] if isinstance(batch, list | tuple) else batch).square().mean()


def test_training_without_targets(tmp_path):
    data = DataLoader(TensorDataset(pairs()[0]), batch_size=16)
    with pytest.raises(CollectionError, match=r"no targets.*quantities=\('input',\)"):
        fit(tmp_path, monitor(), Labelled(), data)
    callback = monitor(quantities=("input",))
    fit(tmp_path, callback, Labelled(), data)
    assert {r["quantity"] for r in callback.history.to_rows()} == {"input"}


class Tokens(Labelled):
    def __init__(self):
        super().__init__(nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(12, 2), nn.Tanh()))


def test_token_ids_have_no_distances(tmp_path):
    data = DataLoader(TensorDataset(torch.randint(5, (60, 4)), torch.randn(60)), batch_size=16)
    callback, model = monitor(), Tokens()
    with pytest.warns(UserWarning, match=r"I\(X;T\) is not measured.*third value of batch_fn") as caught:
        fit(tmp_path, callback, model, data, max_epochs=2)
    assert sum("not measured" in str(w.message) for w in caught) == 1
    assert {r["quantity"] for r in callback.history.to_rows()} == {"target", "usable"}
    callback = monitor(batch_fn=lambda batch: (batch[0], batch[1], model.net[0](batch[0])))
    fit(tmp_path, callback, model, data)
    assert {r["quantity"] for r in callback.history.to_rows()} == {"target", "usable", "input"}


def test_a_constant_layer_is_zero_and_flagged(tmp_path):
    dead = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    nn.init.zeros_(dead[0].weight)
    nn.init.constant_(dead[0].bias, -1.0)
    callback = monitor()
    fit(tmp_path, callback, Net(dead))
    for row in callback.history.to_rows():
        if row["layer"] == "net.1":
            assert row["mi"] == 0
            assert "constant" in row["flags"]


class Diverging(Net):
    """Its weights become NaN in epoch 1."""

    def on_train_epoch_start(self):
        if self.current_epoch == 1:
            with torch.no_grad():
                self.net[2].weight.fill_(float("nan"))


def test_nan_activations_warn_log_nan_and_let_training_go_on(tmp_path):
    callback = monitor()
    with pytest.warns(RuntimeWarning, match=r"epoch 1, layer net\.1, net\.3, output.*activations: .*NaN") as caught:
        run = fit(tmp_path, callback, Diverging(), max_epochs=3)
    assert len([w for w in caught if "failed in part" in str(w.message)]) == 1, "once a kind"
    assert run.current_epoch == 3
    for row in callback.history.to_rows():
        assert math.isnan(row["mi"]) == (row["epoch"] > 0), row
    assert math.isnan(run.callback_metrics["mi_target/output"])
    with pytest.raises(CollectionError, match="NaN"):
        fit(tmp_path, monitor(on_error="raise"), Diverging(), max_epochs=3)


def test_more_neighbours_than_samples(tmp_path):
    callback = monitor(k=60)
    with pytest.warns(RuntimeWarning, match="k"):
        fit(tmp_path, callback)
    # a decoder counts no neighbours, and no part takes another with it
    assert all(math.isnan(row["mi"]) == (row["quantity"] != "usable") for row in callback.history.to_rows())


@pytest.mark.parametrize(
    ("options", "data", "message"),
    [
        ({"layers": ["net.9"]}, None, r"no module 'net\.9'.*It has: net, net\.0"),
        ({"layers": ["spare"]}, None, "'spare' never fired"),
        ({}, DataLoader(TensorDataset(*pairs(), torch.zeros(60)), batch_size=16), "batch: .*batch_fn"),
    ],
)
def test_what_cannot_work_is_told_before_the_first_step(tmp_path, options, data, message):
    class Spare(Labelled):
        steps = 0

        def __init__(self):
            super().__init__()
            self.spare = nn.ReLU()

        def training_step(self, batch, batch_idx):
            Spare.steps += 1
            return super().training_step(batch, batch_idx)

    with pytest.raises(CollectionError, match=message):
        fit(tmp_path, monitor(**options), Spare(), data)
    assert Spare.steps == 0


@pytest.mark.parametrize(
    "options",
    [
        {"quantities": ("output",)},
        {"quantities": "target"},
        {"quantities": ()},
        {"every_n_epochs": 0},
        {"max_samples": 3},
        {"batch_fn": 3},
        {"on_error": "ignore"},
        {"layers": 1},
        {"layers": [1]},
        {"layers": [["net.1"]]},
        {"layers": [torch.nn.ReLU()]},
        {"layers": {"net.1": 3}},
        {"layers": ""},
        {"discrete_target": "no"},
        {"active_dropout": "x"},
    ],
)
def test_arguments_out_of_range_are_refused_at_once(options):
    with pytest.raises(MisconfigurationException, match=f"{next(iter(options))}=.*Expected"):
        MutualInformationMonitor(**options)


def test_without_a_logger_everything_is_kept_and_said_once(tmp_path):
    callback = monitor()
    with pytest.warns(UserWarning, match="no logger"):
        fit(tmp_path, callback)
    assert len(callback.history.to_rows()) == 9


@pytest.mark.slow
def test_figures_beside_a_csv_file(tmp_path):
    fit(tmp_path, monitor(), max_epochs=2, logger=CSVLogger(tmp_path, "run"))
    assert len(list(tmp_path.rglob("*.png"))) == 6
    text = next(tmp_path.rglob("metrics.csv")).read_text()
    assert "mi_target_pvalue/net.1" in text


def test_without_permutations_there_is_no_null(tmp_path):
    callback = monitor(n_permutations=0)
    run = fit(tmp_path, callback)
    assert not [key for key in run.callback_metrics if "null" in key or "pvalue" in key]
    assert all(r["p_value"] is None and r["mi"] == r["raw"] for r in callback.history.to_rows())


def test_the_networks_own_tables_of_x_and_y_are_made_once(tmp_path, monkeypatch):
    from mi_callback.monitoring import tasks

    made = []
    variable = tasks.Variable
    monkeypatch.setattr(tasks, "Variable", lambda *a, name, **k: made.append(name) or variable(*a, name=name, **k))
    fit(tmp_path, monitor(layers=["net.1"]), max_epochs=3)
    # The first batch, tried before training, is a set of its own.
    assert [name for name in made if name in ("targets", "inputs")] == ["inputs", "targets"] * 2


def test_a_convolution_too_wide_to_keep_is_reduced_read_and_named(tmp_path):
    """8,192 coordinates of which one latent is the target's; the cap I(latent;Y) is that of a uniform plus noise."""
    generator = torch.Generator().manual_seed(0)
    latent = torch.rand(400, 1, generator=generator)
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    distances = (rows - 8 - 16 * latent[:, :, None]) ** 2 + (columns - 16) ** 2
    y = latent + 0.15 * torch.randn(400, 1, generator=generator)
    torch.manual_seed(0)
    convolution = nn.Conv2d(1, 8, 3, padding=1)
    net = nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 1))
    callback = monitor(layers=["net.1", "output"], n_permutations=20)
    data = DataLoader(TensorDataset(torch.exp(-distances / 8)[:, None], y), batch_size=50, shuffle=True)
    fit(tmp_path, callback, Net(net), data)
    rows_of = {(r["layer"], r["quantity"]): r for r in callback.history.to_rows()}
    wide = rows_of["net.1", "target"]
    assert wide["space"] == "sparse random projection 8192 -> 1024, scores"
    assert rows_of["net.1", "input"]["space"] == wide["space"]
    assert rows_of["output", "target"]["space"] == "scores"
    grid = np.linspace(-1.5, 2.5, 40_001)
    density = ndtr(grid / 0.15) - ndtr((grid - 1) / 0.15)
    cap = (trapezoid(entr(density), grid) - 0.5 * math.log(2 * math.pi * math.e * 0.15**2)) / math.log(2)
    assert abs(wide["mi"] - cap) < 4 * wide["stderr"]


@pytest.mark.slow
def test_a_reduced_layer_reads_as_the_same_layer_unreduced(tmp_path, monkeypatch):
    """Evidence: maps of 4,608 coordinates behind two residual blocks, measured as they are and through a projection.

    The images have 20 degrees of freedom, as far fewer than the 1,024 that are kept as those of real ones are. With as
    much noise as pixels the projection has to lose some: 3.0 instead of 3.6 bits were read there. I(X;T) is
    left out: it is infinite, and the resolution read in its place goes by the geometry, which normal scores of other
    coordinates change (4.9 and 5.3 bits behind the first block, 3.9 and 3.1 behind the second).
    """

    class Block(nn.Module):
        def __init__(self, before):
            super().__init__()
            self.first = nn.Sequential(nn.Conv2d(before, 8, 3, 1, 1), nn.ReLU())
            self.second = nn.Conv2d(8, 8, 3, 1, 1)
            self.skip = nn.Conv2d(before, 8, 1)

        def forward(self, x):
            return torch.relu(self.second(self.first(x)) + self.skip(x))

    rng = np.random.default_rng(0)
    latents = rng.standard_normal((400, 20))
    smooth = gaussian_filter(rng.standard_normal((20, 3, 24, 24)), (0, 0, 3, 3))
    images = np.tensordot(latents, smooth / smooth.std(), axes=1)
    y = latents[:, :1] + 0.3 * rng.standard_normal((400, 1))
    tensors = (torch.from_numpy(values).float() for values in (images, y))
    data = DataLoader(TensorDataset(*tensors), batch_size=100, shuffle=True)
    rows = {}
    for name, limit in (("reduced", 4_096), ("whole", 10_000)):
        monkeypatch.setattr(reduction, "WIDTH_LIMIT", limit)
        torch.manual_seed(0)
        net = nn.Sequential(Block(3), Block(8), nn.Flatten(), nn.Linear(4_608, 1))
        callback = MutualInformationMonitor(layers=["net.0", "net.1"], quantities=("target",), n_permutations=19)
        fit(tmp_path / name, callback, Net(net), data)
        rows[name] = {(row["layer"], row["quantity"]): row for row in callback.history.to_rows()}
    for key, whole in rows["whole"].items():
        reduced = rows["reduced"][key]
        assert abs(reduced["mi"] - whole["mi"]) <= 2 * math.hypot(reduced["stderr"], whole["stderr"]), key
        assert ("sparse random projection 4608 -> 1024" in reduced["space"]) == (key[0] != "output"), key
    assert rows["whole"]["net.0", "usable"]["mi"] > 0.3
