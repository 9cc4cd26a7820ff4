"""The fast estimator equals the brute-force float64 oracle to 1e-3 nats, on whatever hypothesis comes up with."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mi_callback import mutual_information
from tests import naive
from tests.strategies import Samples, classes, pairs

SPACES = st.sampled_from(["raw", "standard", "scores"])
METRICS = st.sampled_from(["euclidean", "chebyshev"])


def in_nats(x, y, samples, **options):
    return mutual_information(x, y, k=samples.k, unit="nats", n_permutations=0, **options).raw


def assert_between(value, bounds):
    """Within 1e-3 nats of the oracle, whichever way it decides ties that are up to the last bit."""
    low, high = bounds
    assert low - 1e-3 <= value <= high + 1e-3


@given(pairs(), SPACES, METRICS)
def test_continuous_target(samples: Samples, space, metric):
    """Evidence: oracle; random n, d, k, scales, offsets, duplicates, atoms, heavy tails."""
    bounds = naive.bounds(samples.x, samples.y, k=samples.k, space=space, metric=metric)
    assert_between(in_nats(samples.x, samples.y, samples, space=space, metric=metric), bounds)


@given(classes(), SPACES, METRICS)
def test_discrete_target(samples: Samples, space, metric):
    """Evidence: oracle; classes of one member, of fewer than k, and of most of the samples."""
    labels = samples.y
    assume(np.sum(np.bincount(labels)[labels] > 1) >= samples.k + 2)
    bounds = naive.bounds(samples.x, labels, k=samples.k, space=space, metric=metric, discrete=True)
    value = in_nats(samples.x, labels, samples, space=space, metric=metric, discrete=True)
    assert_between(value, bounds)


@given(pairs(max_n=80))
def test_single_precision_input(samples: Samples):
    """Evidence: oracle on the same rounded numbers; an offset of 1e4 times the spread makes many of them equal."""
    x, y = samples.x.astype(np.float32), samples.y.astype(np.float32)
    assert_between(in_nats(x, y, samples, space="standard"), naive.bounds(x, y, k=samples.k, space="standard"))


@pytest.mark.parametrize("space", ["raw", "scores"])
@pytest.mark.parametrize("n", [5, 6, 7, 10])
def test_as_few_samples_as_possible(n, space):
    """Evidence: oracle, at n = k + 2 and just above."""
    x, y = np.random.default_rng(n).standard_normal((2, n))
    assert_between(
        mutual_information(x, y, space=space, unit="nats", n_permutations=0).raw, naive.bounds(x, y, space=space)
    )


@pytest.mark.parametrize("space", ["raw", "scores"])
@pytest.mark.parametrize("q", [1, 4])
def test_as_many_samples_as_the_oracle_bears(space, q):
    """Evidence: oracle at n = 1,500, where most rows of a neighbour table are shorter than n."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1500, 12))
    y = x[:, :q] + 0.3 * rng.standard_normal((1500, q))
    expected = naive.mutual_information(x, y, space=space)
    assert mutual_information(x, y, space=space, unit="nats", n_permutations=0).raw == pytest.approx(expected, abs=1e-3)


def test_null_values_are_estimates_on_shuffled_targets():
    """Evidence: oracle; its own permutations give the null's mean and spread, to sampling error."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((120, 3))
    y = x[:, :1] ** 2 + 0.1 * rng.standard_normal((120, 1))
    result = mutual_information(x, y, space="scores", unit="nats", n_permutations=200)
    fresh = np.array([naive.mutual_information(x, rng.permutation(y)) for _ in range(200)])
    assert len(result.null) == 200
    assert result.null.mean() == pytest.approx(fresh.mean(), abs=4 * fresh.std() / np.sqrt(100))
    assert result.null.std() == pytest.approx(fresh.std(), rel=0.2)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_chebyshev_on_the_raw_scale_is_the_classic_estimator(k):
    """Evidence: NPEET's arithmetic written out with scipy's tree, on tie-free numbers, to 1e-6 nats."""
    from scipy.spatial import cKDTree
    from scipy.special import digamma

    rng = np.random.default_rng(k)
    x = rng.standard_normal((400, 3))
    y = x[:, :2] + rng.standard_normal((400, 2))
    radius = cKDTree(np.hstack([x, y])).query(np.hstack([x, y]), k=k + 1, p=np.inf)[0][:, k] - 1e-15
    n_x, n_y = (cKDTree(side).query_ball_point(side, radius, p=np.inf, return_length=True) for side in (x, y))
    expected = digamma(k) + digamma(400) - digamma(n_x).mean() - digamma(n_y).mean()
    result = mutual_information(x, y, k=k, metric="chebyshev", space="raw", unit="nats", n_permutations=0)
    assert result.raw == pytest.approx(expected, abs=1e-6)
