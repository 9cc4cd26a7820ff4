"""Projections: each reads what it is made for, none reads more than there is, and the greatest keeps the null."""

import numpy as np
import pytest
from scipy.special import digamma, gammaln

from mi_callback import mutual_information
from mi_callback.estimation import Estimator, Variable
from mi_callback.estimation.permutation import Permutations, PermutationsWithin
from mi_callback.estimation.projections import project
from mi_callback.estimation.readings import Reading, greatest
from mi_callback.estimation.spaces import normal_scores


def read(x, y, n_permutations=19, points=None):
    """All projections of x and y, by name: several of one name are several predictions."""
    x = normal_scores(x).astype(np.float64)
    y = y if y.dtype.kind == "i" else normal_scores(y.reshape(len(y), -1)).astype(np.float64)
    permutations = Permutations(len(x), n_permutations, 0, points)
    found = {}
    for one in project(x, y, k=3, metric="euclidean", permutations=permutations, points=points, seed=0):
        found.setdefault(one.fitted_space, []).append(one)
    return found


def test_a_copula_reads_much_in_many_dimensions():
    """Closed form: ten pairs of correlation .9 hold 8.30 nats, of which neighbours read less than half."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1_500, 10))
    y = 0.9 * x + np.sqrt(1 - 0.81) * rng.standard_normal((1_500, 10))
    truth = -5 * np.log(1 - 0.81)
    copula = read(x, y)["copula"]
    assert max(one.local.mean() for one in copula) == pytest.approx(truth, abs=0.35)
    assert all(one.local.mean() < truth + 3 * one.stderr for one in copula)
    assert all(one.null.max() < 0.05 for one in copula), "a held-out bound is no higher than chance under permutations"


def test_monotone_marginals_change_nothing():
    """Identity: normal scores are the same to the last bit."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((400, 3))
    y = x[:, 0] + rng.standard_normal(400)
    plain, bent = read(x, y), read(np.exp(x), y**3)
    assert [one.local.mean() for one in plain["copula"]] == [one.local.mean() for one in bent["copula"]]


def test_predictions_bend():
    """y = |u| + v^2 and noise holds 1.40 nats (quadrature): a linear prediction sees none of it, a bent one most."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((2_000, 5))
    y = np.abs(x[:, 0]) + x[:, 1] ** 2 + 0.3 * rng.standard_normal(2_000)
    bent = max(one.local.mean() for one in read(x, y)["prediction"])
    assert 0.7 < bent < 1.4
    assert mutual_information(x, y, unit="nats", n_permutations=19).mi > bent - 0.1


def test_radii_read_classes_of_different_scale():
    """The scales .8 and 1.2 of 64 columns tell two classes apart but for .03 nats of log 2."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 1_000)
    x = rng.standard_normal((1_000, 64)) * np.where(labels, 0.8, 1.2)[:, None]
    estimate = mutual_information(x, labels, unit="nats", n_permutations=19)
    assert estimate.space == "radii"
    assert estimate.mi == pytest.approx(0.661, abs=0.04)


def test_what_the_norm_alone_carries_is_flagged_and_held():
    """Closed form of the multivariate t: neighbours of both sides read .7 of .56, the interval holds it."""
    nu, d = 5, 20

    def f(dimension):
        return (
            gammaln(nu / 2)
            - gammaln((nu + dimension) / 2)
            + (nu + dimension) / 2 * (digamma((nu + dimension) / 2) - digamma(nu / 2))
        )

    truth = 2 * f(d) - f(2 * d)
    assert truth == pytest.approx(0.558, abs=0.002)
    rng = np.random.default_rng(4)
    scale = np.sqrt(nu / rng.chisquare(nu, (1_000, 1)))
    x, y = rng.standard_normal((2, 1_000, d)) * scale
    estimate = mutual_information(x, y, unit="nats", n_permutations=19)
    assert "either_way" in [flag.label for flag in estimate.flags]
    assert estimate.interval[0] < truth < estimate.interval[1]
    assert estimate.interval[0] > 0.5 * truth


def test_projections_at_points_are_those_of_the_points():
    """The mean over 500 points is that over all 3,000 samples within four of its errors."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((3_000, 4))
    y = x[:, 0] + 0.5 * rng.standard_normal(3_000)
    points = np.sort(rng.permutation(3_000)[:500])
    whole, some = read(x, y), read(x, y, points=points)
    for one, all_of_it in zip(some["copula"] + some["radii"], whole["copula"] + whole["radii"], strict=True):
        assert one.local.mean() == pytest.approx(all_of_it.local.mean(), abs=4 * one.local.std() / np.sqrt(500))
        assert one.null.shape == (19,)


def test_the_greatest_takes_its_null_off():
    """By hand: nulls are centred first, unless of a bound, and their maximum is the null of the greatest."""
    plain = Reading(np.full(4, 0.5), np.array([0.1, 0.3]), 0)
    bound = Reading(np.full(4, 0.2), np.array([-1.0, 0.15]), 0, stderr=0.01, fitted_space="copula", is_bound=True)
    found = greatest([plain, bound])
    assert found.fitted_space is None
    np.testing.assert_allclose(found.null, [0.1, 0.35])  # max(-.1, -1) and max(.1, .15), each with the mean .2 put back
    assert found.certified == pytest.approx(0.17)


def test_permutations_within_parts_stay_within():
    parts = [np.arange(0, 10, 2), np.arange(1, 10, 2)]
    batch = PermutationsWithin(parts, 5, 0).batch(0, 6)
    assert (batch[0] == np.arange(10)).all()
    assert (np.sort(batch, axis=1) == np.arange(10)).all()
    assert (batch % 2 == np.arange(10) % 2).all()


@pytest.mark.slow
@pytest.mark.parametrize("q", [1, 4])
def test_p_values_of_the_greatest_are_uniform(q):
    """400 independent draws, n = 80, P = 19: rejections at .05 and .5 within three standard errors."""
    rng = np.random.default_rng(6)
    estimator = Estimator(n_permutations=19)
    estimator.n_parts = 0  # the interval has no say in p
    pairs = [
        (Variable(rng.standard_normal((80, 3))), Variable(rng.standard_normal((80, q)), discrete=False))
        for _ in range(400)
    ]
    p = [estimator.check(x, y, estimator.estimate(x, y)).p_value for x, y in pairs]
    assert abs(np.mean(np.array(p) <= 0.05) - 0.05) < 3 * np.sqrt(0.05 * 0.95 / 400)
    assert abs(np.mean(np.array(p) <= 0.5) - 0.5) < 3 * np.sqrt(0.25 / 400)
