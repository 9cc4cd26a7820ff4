"""Surrogates of known information, and what estimators read of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mi_callback.estimation import Estimator
from mi_callback.estimation.calibration import Calibration, _solved, calibrate, class_surrogate, gaussian_surrogate
from mi_callback.estimation.usable import usable_information


def sample(n=3000, d=5):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + 3


@pytest.mark.parametrize(("d", "e", "nats"), [(1, 1, 0.5), (5, 1, 2.0), (6, 3, 1.5), (3, 8, 4.0)])
def test_gaussian_surrogate_has_the_information_it_states(d, e, nats):
    t, y = sample(20_000, d), sample(20_000, e)[:, ::-1]
    a, b = gaussian_surrogate(t, y, nats, np.random.default_rng(1))
    assert (a.shape, b.shape) == (t.shape, y.shape)
    np.testing.assert_allclose(np.cov(a.T), np.cov(t.T), atol=0.05 * np.abs(np.cov(t.T)).max())
    joint = np.linalg.slogdet(np.cov(np.concatenate([a, b], 1).T))[1]
    parts = np.linalg.slogdet(np.atleast_2d(np.cov(a.T)))[1] + np.linalg.slogdet(np.atleast_2d(np.cov(b.T)))[1]
    assert 0.5 * (parts - joint) == pytest.approx(nats, abs=0.05)


def test_class_surrogate_has_the_information_it_states():
    t = sample(20_000, 4)
    labels = np.repeat(np.arange(3), [10_000, 6_000, 4_000])
    x, y, nats = class_surrogate(t, labels, 0.4, np.random.default_rng(1))
    assert nats == pytest.approx(0.4, abs=1e-4)
    np.testing.assert_allclose(np.bincount(y) / 20_000, [0.5, 0.3, 0.2], atol=0.02)
    assert usable_information(x, y, discrete=True).local.mean() == pytest.approx(0.4, abs=0.03)


def test_as_much_as_classes_can_hold():
    labels = np.repeat([0, 1], 500)
    _, _, nats = class_surrogate(sample(1000, 2), labels, 5.0, np.random.default_rng(0))
    assert math.log(2) - 0.01 < nats < math.log(2)


def test_reads_nearly_all_in_low_dimension():
    rng = np.random.default_rng(0)
    t = rng.standard_normal((800, 2))
    estimator = Estimator(n_permutations=0, space="scores")
    result = calibrate(estimator, t, t[:, 0] + rng.standard_normal(800), truth=1.0)
    assert result.truth == 1.0
    assert result.reads == pytest.approx(1.0, abs=0.2)
    assert str(result).startswith("At 800 samples of 2 features this estimator reads ")


def test_finds_out_an_estimator_that_is_blind_at_this_width():
    rng = np.random.default_rng(0)
    t = rng.standard_normal((800, 40))
    result = calibrate(Estimator(n_permutations=0, space="standard"), t, rng.standard_normal(800), truth=1.0)
    assert result.reads < 0.5 * result.truth


def test_finds_the_truth_behind_a_reading():
    """Closed form: of 1 nat along one axis of 24 plain neighbours read less than half; the surrogate says so."""
    rng = np.random.default_rng(0)
    t = rng.standard_normal((600, 24))
    y = t.sum(axis=1) / 24**0.5 + rng.standard_normal(600) / math.sqrt(math.expm1(2))
    estimator = Estimator(n_permutations=10, space="scores", unit="nats")
    result = calibrate(estimator, t, y)
    assert result.reads < 0.5
    assert 0.6 < result.truth < 1.6


def test_a_reading_that_can_be_believed_is_its_own_truth():
    rng = np.random.default_rng(0)
    t = rng.standard_normal((500, 1))
    y = (t[:, 0] + 0.5 * rng.standard_normal(500) > 0).astype(int)
    estimator = Estimator(n_permutations=0, space="scores", unit="nats")
    result = calibrate(estimator, t, y, discrete=True)
    assert result.unit == "nats"
    assert result.truth == pytest.approx(result.reads, abs=0.12)


def test_nothing_reads_more_than_there_can_be():
    """By hand: an estimator that reads half of everything never reads what it is asked for."""

    def half(truth):
        return Calibration(truth, truth / 2, 0.01, 100, 3, "nats")

    assert _solved(half, 1.0, least=0.07, most=math.log(100)).truth == pytest.approx(2.0, abs=0.15)
    assert _solved(half, 4.0, least=0.07, most=math.log(100)).truth == math.inf


def test_constant_layers_cannot_be_calibrated():
    with pytest.raises(ValueError, match="constant"):
        gaussian_surrogate(np.ones((10, 2)), np.ones((10, 1)), 1.0, np.random.default_rng(0))
