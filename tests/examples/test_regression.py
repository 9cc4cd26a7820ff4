"""The example as a user runs it: the numbers it must show, what it writes, and what it leaves alone."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader, TensorDataset

from mi_callback import MutualInformationMonitor
from tests.ground_truth import BITS
from tests.piecewise_linear import QuadraticRegression, relu_network

EXAMPLE = Path(__file__).parents[2] / "examples" / "regression.py"
HIDDEN = ["net.1", "net.3", "net.5", "net.7"]


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("regression_example", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_events(folder: Path) -> EventAccumulator:
    (file,) = folder.rglob("events.out.tfevents.*")
    return EventAccumulator(str(file), size_guidance={"scalars": 0, "images": 0}).Reload()


def table_of(printed: str) -> dict[str, list[float]]:
    """The printed numbers by row."""
    rows = re.findall(r"^(net\.\d|output|ceiling I\(X;Y\)|targets out of step) +(.*)$", printed, flags=re.MULTILINE)
    return {name: [float(cell.removeprefix("+-")) for cell in cells.split()] for name, cells in rows}


@pytest.mark.slow
def test_the_whole_run(example, tmp_path, capsys):
    """Evidence: I(X;Y) = 3.4731797 bits; 500 epochs measured every 10."""
    monitor = example.main(["--log-dir", str(tmp_path), "--images", str(tmp_path / "images")])
    printed = capsys.readouterr().out
    table = table_of(printed)
    assert "tensorboard --logdir" in printed
    assert list(table) == [*HIDDEN, "output", "ceiling I(X;Y)", "targets out of step"]

    ceiling = QuadraticRegression().mutual_information * BITS
    assert table["output"][1] > 3.2
    for layer in HIDDEN:
        assert ceiling - 0.45 < table[layer][1] < ceiling + 0.15
    assert table["output"][5] < 1.0  # usable: little at first,
    assert table["output"][6] > 3.0  # nearly everything in the end
    trap, _, band, p_value = table["targets out of step"]
    assert abs(trap) < band
    assert p_value > 0.05

    events = read_events(tmp_path)
    epochs = list(range(0, 500, 10))
    rows = monitor.history.to_rows()
    for layer in [*HIDDEN, "output"]:
        for quantity in ("target", "input"):
            mine = [row for row in rows if row["layer"] == layer and row["quantity"] == quantity]
            assert [row["epoch"] for row in mine] == epochs
            for tag, key in (("", "mi"), ("_raw", "raw"), ("_null_std", "null_std"), ("_pvalue", "p_value")):
                logged = events.Scalars(f"mi_{quantity}{tag}/{layer}")
                assert [event.step for event in logged] == [row["step"] for row in mine]
                np.testing.assert_allclose([event.value for event in logged], [row[key] for row in mine], atol=1e-5)
    for tag in ("mi/information_plane", "mi/curves"):
        assert len(events.Images(tag)) == len(epochs)
    assert {path.name for path in (tmp_path / "images").iterdir()} >= {
        "regression_curves.png",
        "regression_information_plane.png",
    }


@pytest.mark.slow
def test_a_short_run(example, tmp_path, capsys):
    """Evidence: the options do what they say; nothing about the values."""
    monitor = example.main(["--epochs", "5", "--measure-every", "2", "--seed", "3", "--log-dir", str(tmp_path)])
    assert {row["epoch"] for row in monitor.history.to_rows()} == {0, 2, 4}
    printed = capsys.readouterr().out
    assert "epoch 0" in printed
    assert "epoch 4" in printed
    assert abs(table_of(printed)["targets out of step"][0]) < 0.25
    assert "mi_target/output" in read_events(tmp_path).Tags()["scalars"]


@pytest.mark.slow
def test_layers_stay_below_what_their_weights_can_hold(example, tmp_path):
    """Evidence: exact I(T;Y) of the piecewise linear output, from the network's own breakpoints."""
    monitor = example.main(["--epochs", "40", "--measure-every", "39", "--log-dir", str(tmp_path)])
    checkpoint = next(tmp_path.rglob("*.ckpt"))
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    weights = [state[f"net.{i}.weight"].double().numpy() for i in range(0, 9, 2)]
    biases = [state[f"net.{i}.bias"].double().numpy() for i in range(0, 9, 2)]
    truth = QuadraticRegression()
    layers = zip([*HIDDEN, "output"], relu_network(weights, biases, -3, 3), strict=True)
    last = {
        row["layer"]: row for row in monitor.history.to_rows() if row["quantity"] == "target" and row["epoch"] == 39
    }
    for layer, (knots, values) in layers:
        exact = truth.layer_information(knots, values) * BITS
        assert exact - 0.5 < last[layer]["mi"] < exact + 0.2


class WithDropout(L.LightningModule):
    """The example's network with dropout, whose masks any stray random number would change."""

    def __init__(self, example) -> None:
        super().__init__()
        layers = list(example.Regression().net)
        self.net = torch.nn.Sequential(*layers[:4], torch.nn.Dropout(0.2), *layers[4:])

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return torch.nn.functional.mse_loss(self(x), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3, momentum=0.9)


def trained_weights(example, callbacks) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = WithDropout(example)
    x = 6 * torch.rand(100, 1) - 3
    loader = DataLoader(TensorDataset(x, x**2), batch_size=32, shuffle=True)
    trainer = L.Trainer(
        max_epochs=4,
        callbacks=callbacks,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, loader)
    assert model.net.training
    return {**model.state_dict(), "random state": torch.get_rng_state()}


@pytest.mark.filterwarnings("ignore:.*logger.*")
def test_training_is_the_same_with_and_without(example):
    """Evidence: every weight, and the state of the random generator, bit by bit, under shuffling and dropout."""
    plain = trained_weights(example, [])
    measured = trained_weights(example, [MutualInformationMonitor(n_permutations=5)])
    assert plain.keys() == measured.keys()
    for name in plain:
        assert torch.equal(plain[name], measured[name]), name
