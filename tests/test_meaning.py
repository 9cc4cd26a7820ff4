"""What the numbers mean, through the real callback: routes, sweeps, bounds, ceilings, flags, audit and verdicts."""

from __future__ import annotations

import logging
import math

import lightning
import numpy as np
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mi_callback import MutualInformationMonitor
from tests.models import QUIET, Net, pairs, trainer

pytestmark = [pytest.mark.filterwarnings(line) for line in (*QUIET, "ignore:.*takes .* of the time:RuntimeWarning")]


def run(path, x, y, net, *, max_epochs=1, lr=None, batch_size=64, **options):
    """Train ``net`` on x and y and give the monitor back."""
    monitor = MutualInformationMonitor(**{"n_permutations": 0, **options})
    lightning.seed_everything(0, verbose=False)
    model = Net(net)
    if lr is not None:
        model.configure_optimizers = lambda: torch.optim.SGD(model.parameters(), lr=lr)
    run.trainer = trainer(path, monitor, max_epochs=max_epochs)
    run.trainer.fit(model, DataLoader(TensorDataset(x, y), batch_size=batch_size, shuffle=True))
    return monitor


def rows_of(monitor, layer, quantity):
    return [r for r in monitor.history.to_rows() if (r["layer"], r["quantity"]) == (layer, quantity)]


class Probe(nn.Module):
    """Passes the input on through an identity that can be measured; the output is learnt from it."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.look = nn.Identity()
        self.head = nn.Linear(d, 1)

    def forward(self, x):
        return self.head(self.look(x))


@pytest.mark.parametrize(("d", "sigma"), [(4, 0.3), (8, 1.0), (16, 1.0)])
def test_measurement_noise_in_the_three_known_settings(tmp_path, d, sigma):
    """Evidence: d/2 log2(1 + 1/sigma^2); within .4 bits, and free of flags."""
    x, y = pairs(4000, d)
    monitor = run(
        tmp_path, x, y, Probe(d), layers=["net.look"], quantities=("input",), noise_std=sigma, batch_size=1000
    )
    (row,) = rows_of(monitor, "net.look", "input")
    assert row["mi"] == pytest.approx(d / 2 * math.log2(1 + 1 / sigma**2), abs=0.4)
    assert (row["estimator"], row["space"], row["flags"]) == ("mixture", f"noise {sigma:g}", [])


def test_too_little_noise_is_flagged(tmp_path):
    x, y = pairs(1000, 16)
    monitor = run(tmp_path, x, y, Probe(16), layers=["net.look"], quantities=("input",), noise_std=0.3)
    (row,) = rows_of(monitor, "net.look", "input")
    assert {"saturated", "drift"} <= set(row["flags"])


@pytest.mark.slow
def test_a_sweep_of_noise_is_logged_and_judged(tmp_path):
    x, y = pairs(300)
    monitor = run(tmp_path, x, y, None, noise_std=[0.2, 0.5], max_epochs=3)
    for epoch in range(3):
        small, large = (rows_of(monitor, "output", q)[epoch] for q in ("input", "input_noise_0.5"))
        assert small["mi"] > large["mi"]
    assert {"mi_input/output", "mi_input_noise_0.5/output"} <= set(run.trainer.callback_metrics)
    curves = monitor.evidence.curves("output")
    assert {"mixture, sigma = 0.2", "ksg of T + sigma Z, sigma = 0.2"} <= set(curves)
    assert set(monitor.verdicts()) == {"net.1", "net.3", "output"}


@pytest.mark.parametrize("noise", [0, -1.0, [], [0.1, 0.1], "a", True, [math.nan]])
def test_noise_that_is_none_is_refused(noise):
    with pytest.raises(MisconfigurationException, match="noise_std"):
        MutualInformationMonitor(noise_std=noise)


class Noisy(nn.Module):
    def forward(self, t):
        return t + 0.5 * torch.randn_like(t)


def test_layers_with_noise_of_their_own_are_told_from_deterministic_ones(tmp_path):
    """Evidence: 1/2 log2(1 + 1 / .25) for one unit of unit variance."""
    x = torch.randn(1000, 1, generator=torch.Generator().manual_seed(0))
    net = nn.Sequential(nn.Identity(), Noisy(), nn.Linear(1, 1))
    monitor = run(tmp_path, x, x, net, layers=["net.0", "net.1"], quantities=("input",))
    (clean,), (noisy,) = rows_of(monitor, "net.0", "input"), rows_of(monitor, "net.1", "input")
    assert "deterministic" in clean["flags"]
    assert "deterministic" not in noisy["flags"]
    assert noisy["mi"] == pytest.approx(0.5 * math.log2(1 + float(x.var()) / 0.25), abs=0.15)


def test_dropout_is_silent_unless_it_is_asked_for(tmp_path):
    x, y = pairs(200)
    flags = {}
    for active in (False, True):
        net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, 1))
        monitor = run(tmp_path, x, y, net, layers=["net.1", "net.2"], quantities=("input",), active_dropout=active)
        flags[active] = {layer: rows_of(monitor, layer, "input")[0]["flags"] for layer in ("net.1", "net.2")}
    assert all("deterministic" in found for found in flags[False].values())
    assert "deterministic" in flags[True]["net.1"]
    assert "deterministic" not in flags[True]["net.2"]


@pytest.mark.slow
def test_usable_information_rises_where_the_total_stands_still(tmp_path):
    """The trend of training: a one-to-one layer holds all from the start, but its reader gets more and more."""
    x = 6 * torch.rand(400, 1, generator=torch.Generator().manual_seed(0)) - 3
    y = x**2 - x - 1 + 0.2 * torch.randn(400, 1, generator=torch.Generator().manual_seed(1))
    net = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))
    monitor = run(tmp_path, x, y, net, max_epochs=101, every_n_epochs=50, quantities=("target",), batch_size=32)
    usable = [r["mi"] for r in rows_of(monitor, "output", "usable")]
    total = [r["mi"] for r in rows_of(monitor, "net.1", "target")]
    assert usable[0] < 2.5
    assert usable[-1] > usable[0] + 1
    assert max(total) - min(total) < 0.4
    for row in monitor.history.to_rows():
        if row["quantity"] == "usable":
            assert row["mi"] < 3.4731797 + 2 * row["stderr"]
    assert "mi_usable/output" in run.trainer.callback_metrics
    assert "mi_usable_stderr/output" in run.trainer.callback_metrics


def test_ceilings_are_in_the_history(tmp_path):
    x, y = pairs(400)
    monitor = run(tmp_path, x, y, None)
    assert set(monitor.history.ceilings) == {"I(X;Y)", "log n", "psi(n) - psi(k)"}
    assert monitor.history.ceilings["I(X;Y)"].value == pytest.approx(0.5 * math.log2(1 + 1 / 0.09), abs=0.3)
    assert monitor.history.ceilings["log n"].value == pytest.approx(math.log2(400))
    monitor = run(tmp_path, x, (y[:, :1] > 0).float(), None, discrete_target=True)
    assert monitor.history.ceilings["H(Y)"].value == pytest.approx(1, abs=0.05)


class Wide(nn.Module):
    """An early layer that holds the input among sixty units of noise, and a late one that finds it again."""

    def __init__(self) -> None:
        super().__init__()
        self.early, self.late = nn.Identity(), nn.Identity()
        self.head = nn.Linear(1, 1)

    def forward(self, x):
        return self.head(self.late(self.early(x)[:, :1]))


def test_the_audit_marks_what_no_chain_can_do(tmp_path):
    """The wide layer is read too low by plain neighbours, so the narrow one behind it seems to hold more."""
    x = torch.randn(600, 40, generator=torch.Generator().manual_seed(0))
    y = x[:, :1] + 0.3 * torch.randn(600, 1, generator=torch.Generator().manual_seed(1))
    monitor = run(tmp_path, x, y, Wide(), layers=["net.early", "net.late"], space="standard", quantities=("target",))
    (early,), (late,) = rows_of(monitor, "net.early", "target"), rows_of(monitor, "net.late", "target")
    assert late["mi"] > early["mi"] + 0.5
    assert "data_processing" in late["flags"]
    assert "data_processing" not in early["flags"]
    assert "below_usable" in early["flags"]
    assert "below_usable" not in late["flags"]


def test_a_sound_chain_is_not_marked(tmp_path):
    x, y = pairs(400)
    monitor = run(tmp_path, x, y, nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)), n_permutations=20)
    for row in monitor.history.to_rows():
        if row["quantity"] == "target":
            assert not {"data_processing", "above_ceiling", "within_null", "below_usable"} & set(row["flags"])


def test_dead_units_and_rare_classes_are_remarked_on(tmp_path):
    x, _ = pairs(200)
    labels = torch.zeros(200, 1)
    labels[:5] = 1
    net = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))
    with torch.no_grad():
        net[0].bias[:2] = -100
    monitor = run(tmp_path, x, labels, net, lr=0.0, discrete_target=True, quantities=("target",))
    (hidden,), (output,) = rows_of(monitor, "net.1", "target"), rows_of(monitor, "output", "target")
    assert {"dead_units", "few_per_class"} <= set(hidden["flags"])
    assert "dead_units" not in output["flags"]


def test_discrete_inputs_are_counted_and_verdicts_rest_on_that(tmp_path):
    x = torch.tensor([[float(i >> b & 1) for b in range(8)] for i in range(256)])
    y = x.sum(dim=1, keepdim=True)
    monitor = run(tmp_path, x, y, nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 1)), max_epochs=3)
    assert [r["mi"] for r in rows_of(monitor, "net.1", "input")] == [8.0] * 3
    assert monitor.verdicts()["net.1"].kind == "steady"


def test_evidence_survives_in_checkpoints(tmp_path):
    x, y = pairs(100)
    monitor = run(tmp_path, x, y, None, noise_std=0.5, max_epochs=2)
    path = tmp_path / "run.ckpt"
    run.trainer.save_checkpoint(path)
    torch.load(path, weights_only=True)
    second = MutualInformationMonitor(n_permutations=0, noise_std=0.5)
    trainer(tmp_path, second, max_epochs=2).fit(
        Net(), DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True), ckpt_path=path
    )
    assert repr(second.evidence.state_dict()) == repr(monitor.evidence.state_dict())


def test_a_fall_that_others_contradict_is_told_at_the_end(tmp_path, caplog):
    monitor = MutualInformationMonitor(n_permutations=0, quantities=("target",))
    from mi_callback.estimation.evidence import Witness

    for epoch, (ksg, decoder) in enumerate([(2.0, 1.0), (1.5, 2.0), (1.0, 3.0)]):
        monitor.evidence.add(epoch, "net.1", (Witness("ksg", ksg, 0.01), Witness("linear decoder", decoder, 0.01)))
    with caplog.at_level(logging.INFO):
        trainer(tmp_path, monitor).fit(Net(), DataLoader(TensorDataset(*pairs())))
    assert "net.1: I(X;T) falls by ksg, but not by linear decoder: not evidence of compression." in caplog.text
    assert np.isfinite(monitor.evidence.curves("net.1")["ksg"].values).all()
