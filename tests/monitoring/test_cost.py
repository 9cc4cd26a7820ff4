"""What measuring costs is logged, and told with advice when it is a large share."""

from __future__ import annotations

import warnings

import pytest

from mi_callback import MutualInformationMonitor
from mi_callback.monitoring import cost, progress
from mi_callback.monitoring.cost import Cost
from tests.models import QUIET, Net, loader, trainer

pytestmark = [pytest.mark.filterwarnings(rule) for rule in QUIET]


def monitor():
    return MutualInformationMonitor(n_permutations=2, space="scores")


def test_seconds_are_logged(tmp_path):
    run = trainer(tmp_path, monitor())
    run.fit(Net(), loader())
    seconds = {k: float(v) for k, v in run.callback_metrics.items() if k.startswith("mi_seconds/")}
    assert seconds.keys() == {"mi_seconds/sweep", "mi_seconds/estimate", "mi_seconds/figures"}
    assert all(value >= 0 for value in seconds.values())
    assert seconds["mi_seconds/sweep"] > 0


def told(spent, training, times=1):
    """Warnings after measurements that each took ``spent`` seconds after ``training`` seconds."""
    costs = Cost()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(times):
            costs.seconds = {"sweep": spent / 4, "estimate": 3 * spent / 4}
            costs.advise(training, 5000, 12)
    return [str(w.message) for w in caught]


def test_advice_comes_once_and_names_the_ways_to_spend_less():
    assert told(60, 20, times=1) == [], "the first measurement compiles and makes the tables of X and Y"
    (message,) = told(60, 20, times=4)
    assert "75% of the time (sweep 15.0 s, estimate 45.0 s; 20.0 s of training" in message
    for way in ("max_samples", "5000 samples", "budget", "n_points", "every_n_epochs", "12 layers"):
        assert way in message
    assert told(60, 200, times=4) == [], "a small share"
    assert told(2, 0.1, times=4) == [], "a short time"


def test_the_time_between_measurements_is_that_of_training(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(cost.time, "perf_counter", lambda: now[0])
    costs = Cost()
    assert costs.start() == 0
    costs.resume_training()
    now[0] = 7.0
    assert costs.start() == 7.0
    with costs.part("sweep"):
        now[0] = 9.5
    assert costs.seconds == {"sweep": 2.5}


@pytest.mark.parametrize("is_on", [True, False])
def test_a_bar_appears_where_the_trainer_shows_one(tmp_path, monkeypatch, capfd, is_on):
    import lightning
    from lightning.pytorch.callbacks import TQDMProgressBar

    monkeypatch.setattr(progress, "_PATIENCE", 0.0)
    bars = [TQDMProgressBar()] if is_on else []  # the one that writes where there is no terminal
    run = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=1,
        callbacks=[monitor(), *bars],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        enable_progress_bar=is_on,
        log_every_n_steps=1,
    )
    run.fit(Net(), loader())
    shown = "".join(capfd.readouterr())
    assert ("Mutual information, sweep" in shown) == is_on
    assert ("Mutual information, estimates" in shown) == is_on


def test_no_bar_for_what_is_soon_over(tmp_path, capfd):
    import lightning

    run = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=1,
        callbacks=[monitor()],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        log_every_n_steps=1,
    )
    assert progress._PATIENCE > 0
    run.fit(Net(), loader())
    assert "sweep" not in "".join(capfd.readouterr())


def test_a_bar_that_fails_is_given_up():
    def broken(total):
        raise RuntimeError("no terminal")

    bar = progress._Late(broken)
    bar._began -= 10
    bar.update(1, 2)
    bar.close()
