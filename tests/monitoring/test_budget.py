"""Measuring keeps to a share of the time by taking fewer evaluation points, and says where that is not enough."""

from __future__ import annotations

import json
import time
import warnings
from types import SimpleNamespace

import lightning
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mi_callback import MutualInformationMonitor
from mi_callback.estimation.neighbors import NeighborTable
from mi_callback.estimation.points import evaluation_points
from mi_callback.monitoring import cost
from mi_callback.monitoring.budget import FEWEST_POINTS, Budget
from tests.models import QUIET, Net, pairs, trainer

pytestmark = [pytest.mark.filterwarnings(rule) for rule in QUIET]


# --- what is chosen from what was spent -------------------------------------------------------------------------------


def chosen(budget, seconds_of, training, times, n=60_000, wanted=(10_000, 10_000), every_n_epochs=1):
    """The points of measurements that take ``seconds_of(points)`` to estimate and 1 s for the rest."""
    found = []
    for _ in range(times):
        most = budget.most_points(training)
        points = tuple(min(w, most or n) for w in wanted)
        budget.spent({"sweep": 1.0, "estimate": seconds_of(sum(points))}, training, points, every_n_epochs, most)
        found.append(points)
    return found


def test_points_follow_what_a_point_costs():
    """4 ms a point: of 90 s of training .1 leaves 10 s, less 1 s for the sweep 2,250 points, 1,125 for each of two."""
    assert chosen(Budget(0.1, 3), lambda points: 0.004 * points, 90, 4) == [(10_000,) * 2, *[(1_000,) * 2] * 3]


def test_without_a_budget_or_within_it_nothing_is_cut_off():
    assert chosen(Budget(None, 3), lambda points: 0.004 * points, 1, 3) == [(10_000,) * 2] * 3
    assert chosen(Budget(1, 3), lambda points: 0.004 * points, 1, 3) == [(10_000,) * 2] * 3
    assert chosen(Budget(0.5, 3), lambda points: 0.004 * points, 90, 3) == [(10_000,) * 2] * 3


def test_an_estimate_that_wants_few_points_is_no_reason_to_cut_off_others_more():
    """2,000 of one and what is left of 4,500 points, 2,500, for the other."""
    budget = Budget(0.1, 3)
    assert chosen(budget, lambda points: 0.002 * points, 90, 4, wanted=(2_000, 10_000))[1:] == [(2_000, 2_000)] * 3
    assert chosen(budget, lambda points: 0.0015 * points, 90, 4, wanted=(2_000, 10_000))[-1] == (2_000, 3_000)


def test_points_come_back_when_there_is_time_again():
    budget = Budget(0.1, 3)
    chosen(budget, lambda points: 0.004 * points, 90, 3)
    assert chosen(budget, lambda points: 0.004 * points, 2_000, 2)[-1] == (10_000, 10_000)
    assert budget.most_points(2_000) is None


def test_what_does_not_depend_on_points_is_told_from_two_measurements():
    """6 of the 10 s are taken whatever the points: 1.5 s are left for them, and they go to 700 each, 1.4 s."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = chosen(Budget(0.1, 3), lambda points: 7.5 + 0.001 * points, 90, 6)
    assert found[-1] == (700, 700)


def test_the_first_measurement_of_a_run_is_not_taken_for_the_rule():
    """It compiles for a minute; what it says of points is too much, and the next ones say so."""
    budget = Budget(0.1, 3)
    budget.spent({"sweep": 30.0, "estimate": 70.0}, 90, (10_000,), 1, None)
    assert budget.most_points(90) == FEWEST_POINTS
    assert chosen(budget, lambda points: 0.0005 * points, 90, 4, wanted=(10_000,))[-1] == (10_000,)
    budget.begin_run()
    assert budget.most_points(1e-9) is None


def told(budget, training, every_n_epochs=1, sweep=1.0):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(4):
            most = budget.most_points(training)
            points = (min(10_000, most or 10_000),)
            seconds = {"sweep": sweep, "estimate": 0.001 * points[0], "figures": 0.5}
            budget.spent(seconds, training, points, every_n_epochs, most)
    return [str(w.message) for w in caught]


def test_a_budget_that_the_sweep_alone_passes_is_said_once_with_what_would_do():
    """2 s however few the points, of them 1 + .5 s whatever they are; 1 s of training an epoch leaves .111 s of it."""
    (message,) = told(Budget(0.1, 3), 5.0, every_n_epochs=5)
    assert "2 s however few" in message
    assert "budget=0.1 " in message
    assert "every_n_epochs=18 " in message
    assert told(Budget(0.1, 3), 18.01, every_n_epochs=18) == [], "what was said to do is enough"
    assert told(Budget(0.1, 3), 17.0, every_n_epochs=17) != [], "and no more than that"


# --- real trainings ---------------------------------------------------------------------------------------------------


class Working(Net):
    """A network whose training is some work besides its own small steps.

    Args:
        on_work: told of samples that the network sees, a hundred times as many in training.
        seconds: of the processors that each step keeps busy.
    """

    def __init__(self, on_work=lambda n: None, seconds=0.0):
        super().__init__(nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)))
        self.on_work, self.seconds = on_work, seconds

    def forward(self, x):
        self.on_work(len(x))
        return super().forward(x)

    def training_step(self, batch, batch_idx):
        until = time.process_time() + self.seconds
        while time.process_time() < until:
            pass
        self.on_work(99 * len(batch[0]))
        return super().training_step(batch, batch_idx)


class Spent(lightning.Callback):
    """Notes what every measurement cost; stands after the monitor."""

    def __init__(self, monitor):
        self.monitor, self.seconds = monitor, []

    def on_train_epoch_end(self, trainer, pl_module):
        self.seconds.append(sum(self.monitor._core._cost.seconds.values()))


def data(n, d=2):
    return DataLoader(TensorDataset(*pairs(n, d)), batch_size=100, shuffle=True)


def monitor(**options):
    return MutualInformationMonitor(**({"n_permutations": 2, "space": "scores", "budget": 0.1} | options))


def points_of(callback):
    """Evaluation points of neighbours' estimates by epoch; one number for each epoch."""
    rows = [r for r in callback.history.to_rows() if r["estimator"] in ("ksg", "ross")]
    found = {e: {r["n_points"] for r in rows if r["epoch"] == e} for e in callback.history.epochs}
    assert all(len(numbers) == 1 for numbers in found.values())
    return [numbers.pop() for numbers in found.values()]


@pytest.mark.slow
def test_a_training_takes_its_share_by_a_clock_that_counts_work(tmp_path, monkeypatch):
    """Evidence: work counted, so that the machine has no say: samples that the network sees, and pairs of samples whose
    distance is taken. Without a budget measuring takes a quarter of the whole."""
    now = [0.0]

    def work(amount):
        now[0] += amount

    build = NeighborTable.build.__func__

    def counted(cls, values, width, metric="euclidean", *, unit_rank=None, points=None):
        work((len(values) if points is None else len(points)) * len(values) / 10)
        return build(cls, values, width, metric, unit_rank=unit_rank, points=points)

    monkeypatch.setattr(NeighborTable, "build", classmethod(counted))
    monkeypatch.setattr(cost, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    shares, points = {}, {}
    for budget in (None, 0.1):
        callback = monitor(budget=budget)
        spent = Spent(callback)
        now[0] = 0.0
        model = Working(lambda n: work(15 * n))
        trainer(tmp_path, callback, spent, max_epochs=8).fit(model, data(2_500))
        training = now[0] - sum(spent.seconds)
        shares[budget] = sum(spent.seconds[1:]) / (sum(spent.seconds[1:]) + 7 / 8 * training)
        points[budget] = points_of(callback)
    assert shares[None] > 0.25
    assert points[None] == [2_500] * 8
    assert 0.05 < shares[0.1] <= 0.12
    assert points[0.1][0] == 2_500
    assert all(500 <= one < 2_500 for one in points[0.1][1:])


@pytest.mark.slow
def test_a_training_takes_its_share_of_the_processors(tmp_path, monkeypatch):
    """Evidence: the process's own time on the processors, whatever else they do. At the first epoch all is measured."""
    monkeypatch.setattr(cost, "time", SimpleNamespace(perf_counter=time.process_time))
    callback = monitor(n_permutations=30)
    spent = Spent(callback)
    began = time.process_time()
    trainer(tmp_path, callback, spent, max_epochs=5).fit(Working(seconds=0.2), data(3_000))
    training = time.process_time() - began - sum(spent.seconds)
    points = points_of(callback)
    assert points[0] == 3_000
    assert max(points[1:]) < 3_000
    assert sum(spent.seconds[1:]) <= 0.12 * (sum(spent.seconds[1:]) + 4 / 5 * training)


@pytest.mark.slow
def test_fewer_points_change_the_error_bar_and_not_what_is_estimated(tmp_path):
    """Evidence: the estimate at all samples lies within three standard errors of that at 500; points are nested."""
    rows = {}
    for n_points in (None, 500, "auto"):
        callback = monitor(budget=None, n_points=n_points, n_permutations=20)
        lightning.seed_everything(0, verbose=False)
        trainer(tmp_path, callback).fit(Net(), data(2_000))
        rows[n_points] = {(r["layer"], r["quantity"]): r for r in callback.history.to_rows()}
    whole, few = (rows[n]["output", "target"] for n in (None, 500))
    assert repr(rows["auto"]) == repr(rows[None]), "up to 10,000 samples all are points"
    assert (whole["n_points"], few["n_points"]) == (2_000, 500)
    assert few["stderr"] > 1.2 * whole["stderr"]
    assert few["mi"] == pytest.approx(whole["mi"], abs=3 * few["stderr"])
    assert few["n_samples"] == 2_000
    assert rows[500]["output", "usable"]["n_points"] == 2_000
    fewer, more = (set(evaluation_points(2_000, q, 0)) for q in (500, 700))
    assert fewer < more


class ByRank(Budget):
    """Every process would choose for itself."""

    def most_points(self, training):
        rank = torch.distributed.get_rank()
        return (500, 700)[rank]


class Report(lightning.Callback):
    def __init__(self, path, monitor):
        self.path, self.monitor = path, monitor

    def on_train_end(self, trainer, pl_module):
        (self.path / f"{trainer.global_rank}.json").write_text(json.dumps(points_of(self.monitor)))


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_all_processes_take_the_points_of_the_first(tmp_path):
    """Evidence: rows of both processes, each of which measures some of the layers. On their own they would differ."""
    callback = monitor(quantities=("target",))
    callback._core._budget = ByRank(0.1, 3)
    run = trainer(tmp_path, callback, Report(tmp_path, callback), devices=2, strategy="ddp_fork", max_epochs=2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Measuring mutual information takes")
        run.fit(Net(), data(1_000))
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)] == [[500, 500]] * 2


# --- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_points", [4, 0, -1, 2.5, True, "all", "500"])
def test_numbers_of_points_that_cannot_be(n_points):
    with pytest.raises(MisconfigurationException, match=r"n_points=.*Expected 'auto', an int of at least k \+ 2 = 5"):
        MutualInformationMonitor(n_points=n_points)


@pytest.mark.parametrize("budget", [0, -0.1, 1.5, 10, float("nan"), "0.1", True])
def test_budgets_that_cannot_be(budget):
    with pytest.raises(MisconfigurationException, match=r"budget=.*Expected None, or a share of the time above 0"):
        MutualInformationMonitor(budget=budget)


def test_numbers_of_points_and_budgets_that_can_be():
    for n_points, budget in ((5, 1), ("auto", 0.01), (None, None)):
        MutualInformationMonitor(n_points=n_points, budget=budget)


def test_the_order_of_arguments_is_the_announced_one():
    """Positional calls and command lines rest on it."""
    import inspect

    names = list(inspect.signature(MutualInformationMonitor).parameters)
    assert names[names.index("on_error") :][:3] == ["on_error", "n_points", "budget"]


def test_resuming_with_other_points_goes_on_and_says_what_differs(tmp_path):
    """Evidence: both epochs are there; the state key is that of before, so that checkpoints are found."""
    first = monitor(quantities=("target",), layers=["net.1"], budget=None)
    run = trainer(tmp_path, first)
    run.fit(Net(), data(600))
    path = tmp_path / "one.ckpt"
    run.save_checkpoint(path)
    second = monitor(quantities=("target",), layers=["net.1"], budget=0.5, n_points=500)
    assert second.state_key == first.state_key
    with pytest.warns(
        UserWarning, match=r"n_points='auto' before .* n_points=500. Error bars .* values are comparable"
    ):
        trainer(tmp_path, second, max_epochs=2).fit(Net(), data(600), ckpt_path=path)
    assert points_of(second) == [600, 500]
