"""Several targets, labels that are missing and labels of many kinds, through the real callback."""

from __future__ import annotations

import logging
from collections import namedtuple

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from mi_callback import MutualInformationMonitor
from mi_callback.quantities import limit, limit_of_task, quantity, quantity_of_task
from mi_callback.reporting import History
from tests.models import QUIET, Idle, one_epoch, trainer

pytestmark = [pytest.mark.filterwarnings(rule) for rule in QUIET]


def run(path, data, **options):
    """Rows of one epoch by layer and quantity, the trainer and the monitor."""
    defaults = {"n_permutations": 20, "space": "scores", "layers": "net", "quantities": ("target",)}
    monitor = MutualInformationMonitor(**(defaults | options))
    return *one_epoch(path, monitor, Idle(), data), monitor


class Tasks(Dataset):
    """Inputs (n, 2), of which the first tells a number and the second a class; a third of the classes is missing."""

    def __init__(self, n=600, form=dict):
        generator = torch.Generator().manual_seed(5)
        self.x = torch.randn(n, 2, generator=generator)
        self.number = self.x[:, 0] + 0.5 * torch.randn(n, generator=generator)
        flips = torch.rand(n, generator=generator) < 0.1
        self.label = ((self.x[:, 1] > 0) ^ flips).long()
        self.label[torch.rand(n, generator=generator) < 1 / 3] = -100
        self.form = form

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.form(age=self.number[i], kind=self.label[i])


Named = namedtuple("Named", ["age", "kind"])
NUMBER, CLASS = 0.5 * np.log2(1 + 4), 0.531  # bits: a Gaussian channel, a binary symmetric one


@pytest.mark.parametrize("form", [dict, Named, lambda age, kind: (age, kind)])
def test_each_task_is_a_quantity_of_its_own(tmp_path, form, caplog):
    """Evidence: closed forms. Joined, as on old code, the two hold both together and no class is seen."""
    names = ("0", "1") if not isinstance(form, type) else ("age", "kind")
    data = DataLoader(Tasks(form=form), batch_size=100)
    with caplog.at_level(logging.INFO, "lightning.pytorch"):
        rows, run_, monitor = run(tmp_path, data, quantities=("target", "input"))
    number, label = (rows["net", f"target_{name}"] for name in names)
    assert number["mi"] == pytest.approx(NUMBER, abs=0.2)
    assert label["mi"] == pytest.approx(CLASS, abs=0.1)
    assert (number["estimator"], label["estimator"]) == ("ksg", "ross")
    assert number["n_samples"] == 600
    assert label["n_samples"] == (Tasks().label != -100).sum() < 450
    assert rows["net", f"usable_{names[0]}"]["mi"] > 0.7
    assert rows["net", f"usable_{names[1]}"]["estimator"] == "logistic"
    assert rows["net", "input"]["n_samples"] == 600
    assert run_.callback_metrics[f"mi_target_{names[0]}/output"] == pytest.approx(number["mi"])
    ceilings = monitor.history.ceilings
    assert set(ceilings) >= {f"I(X;Y), {names[0]}", f"I(X;Y), {names[1]}", f"H(Y), {names[1]}", "log n"}
    assert ceilings[f"H(Y), {names[1]}"].value == pytest.approx(1, abs=0.02)
    assert f"H(Y), {names[1]}" in monitor.history.ceilings_of(f"target_{names[1]}")
    assert f"H(Y), {names[1]}" not in monitor.history.ceilings_of(f"target_{names[0]}")
    told = [r.getMessage() for r in caplog.records if "leaves" in r.getMessage()]
    assert len(told) == 1
    assert "samples out of the targets of task" in told[0]


def test_figures_and_report_show_tasks(tmp_path):
    _, _, monitor = run(tmp_path, DataLoader(Tasks(), batch_size=100), quantities=("target", "input"))
    from mi_callback.reporting.figures import draw_figures

    history = History()
    history.load_state_dict(monitor.history.state_dict())
    figures = draw_figures(history)
    assert {"mi/curves", "mi/depth", "mi/information_plane_age", "mi/information_plane_kind"} <= set(figures)
    labels = [axes.get_ylabel() for axes in figures["mi/curves"].axes]
    assert any("age" in label and r"I(T;Y" in label for label in labels)
    for figure in figures.values():
        figure.canvas.draw()
    pytest.importorskip("plotly")
    from mi_callback.reporting import write_report

    write_report(history, tmp_path / "run.html")
    assert "Y_age" in (tmp_path / "run.html").read_text()


def test_every_run_is_told_of_missing_labels(tmp_path, caplog):
    """Evidence: the lines of two fits of two epochs each with one monitor; once each."""
    monitor = MutualInformationMonitor(n_permutations=0, space="scores", layers="net", quantities=("target",))
    data = DataLoader(Tasks(), batch_size=100)
    for _ in range(2):
        with caplog.at_level(logging.INFO, "lightning.pytorch"):
            trainer(tmp_path, monitor, max_epochs=2).fit(Idle(), data)
    assert len([r for r in caplog.records if "leaves" in r.getMessage()]) == 2


def test_missing_labels_of_the_only_target_are_left_out_and_told(tmp_path, caplog):
    """Evidence: a binary symmetric channel. As a class of its own, -100 would halve what is there."""
    data = Tasks()
    with caplog.at_level(logging.INFO, "lightning.pytorch"):
        rows, _, _ = run(tmp_path, DataLoader(TensorDataset(data.x, data.label), batch_size=100))
    assert rows["net", "target"]["mi"] == pytest.approx(CLASS, abs=0.1)
    missing = int((data.label == -100).sum())
    assert sum(f"leaves {missing} of 600 samples out" in r.getMessage() for r in caplog.records) == 1
    degrees = torch.randint(-120, 30, (600,), generator=torch.Generator().manual_seed(1))
    rows, _, _ = run(tmp_path, DataLoader(TensorDataset(data.x, degrees), batch_size=100), discrete_target=False)
    assert rows["net", "target"]["n_samples"] == 600, "a temperature may be -100"


def many_labels(n_labels, n=400):
    """Inputs (n, 20) and as many labels as asked for, each told by one of them with an error in ten."""
    generator = torch.Generator().manual_seed(9)
    x = torch.randn(n, 20, generator=generator)
    flips = torch.rand(n, n_labels, generator=generator) < 0.1
    return x, ((x[:, :n_labels] > 0) ^ flips).long()


def test_each_of_many_labels_is_a_task_and_no_sample_is_lost(tmp_path):
    """Evidence: a binary symmetric channel a label, which a logistic regression reads in part."""
    x, y = many_labels(12)
    with pytest.warns(
        UserWarning, match=r"takes the 12 columns of the targets as as many tasks.*mi_target_0"
    ) as caught:
        rows, _, _ = run(tmp_path, DataLoader(TensorDataset(x, y), batch_size=50), layers=[])
    assert sum("as many tasks" in str(w.message) for w in caught) == 1
    assert {quantity for _, quantity in rows} == {f"{q}_{i}" for q in ("target", "usable") for i in range(12)}
    assert {row["n_samples"] for row in rows.values()} == {400}
    usable = [row["mi"] for (_, name), row in rows.items() if name.startswith("usable")]
    assert np.mean(usable) == pytest.approx(0.35, abs=0.15)


def test_few_different_rows_of_labels_are_one_target(tmp_path, caplog):
    """Evidence: two binary symmetric channels side by side."""
    x, y = many_labels(2, 800)
    with caplog.at_level(logging.INFO, "lightning.pytorch"):
        rows, _, _ = run(tmp_path, DataLoader(TensorDataset(x[:, :2].contiguous(), y), batch_size=100))
    assert rows["net", "target"]["mi"] == pytest.approx(2 * CLASS, abs=0.2)
    assert set(rows) == {(layer, q) for layer in ("net", "output") for q in ("target", "usable")}
    assert sum("4 different rows of 2 zeros and ones" in r.getMessage() for r in caplog.records) == 1


def test_names_of_tasks_lead_to_the_table_and_back():
    for base in ("target", "usable"):
        one = quantity_of_task(base, "head_age")
        assert quantity(one.name) == one
        assert (one.tag, one.base, one.task) == (f"mi_{base}_head_age", base, "head_age")
        assert limit_of_task("H(Y)", "head_age").bounds == ("target_head_age", "usable_head_age")
    assert limit(limit_of_task("I(X;Y)", "a").name) == limit_of_task("I(X;Y)", "a")
    assert limit_of_task("log n", "a") == limit("log n")
    assert quantity("input_noise_0.3").task == ""
