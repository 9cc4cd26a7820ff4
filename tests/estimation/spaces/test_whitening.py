import numpy as np
import pytest

from mi_callback.estimation.spaces.whitening import Whitening, canonical_pairs


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_whitened_coordinates_are_uncorrelated_and_of_about_unit_variance(rng):
    x = (rng.standard_normal((4_000, 5)) @ rng.standard_normal((5, 5)) + 3).astype(np.float32)
    z = Whitening.fit(x)(x)
    covariance = np.cov(z.T)
    assert abs(covariance - np.diag(np.diag(covariance))).max() < 1e-4
    assert abs(z.mean(axis=0)).max() < 1e-4
    assert np.diag(covariance).max() < 1.1


def test_noise_around_a_low_rank_sheet_is_not_blown_up(rng):
    x = rng.standard_normal((2_000, 2)) @ rng.standard_normal((2, 20)) + 0.001 * rng.standard_normal((2_000, 20))
    z = Whitening.fit(x.astype(np.float32))(x.astype(np.float32))
    variances = np.sort(z.var(axis=0))
    assert (variances[:-2] < 1e-3).all()
    assert (variances[-2:] > 0.8).all()


def test_wider_than_the_limit_keeps_the_leading_components(rng):
    factors = rng.standard_normal((300, 4)).astype(np.float32)
    factors -= factors.mean(axis=0)
    x = factors @ rng.standard_normal((4, 700)).astype(np.float32)
    z = Whitening.fit(x)(x)
    residual = factors - z @ np.linalg.lstsq(z, factors, rcond=None)[0]
    assert z.shape[1] <= 512
    assert abs(residual).max() < 0.05


def test_canonical_weights_are_those_of_the_fisher_information(rng):
    n, rho = 50_000, 0.8
    x = rng.standard_normal((n, 3)).astype(np.float32)
    y = rng.standard_normal((n, 2)).astype(np.float32)
    y[:, 1] = rho * x[:, 2] + np.sqrt(1 - rho**2) * y[:, 1]
    pairs = canonical_pairs(x, y, rng)
    assert len(pairs.weights) == 1
    assert pairs.weights[0] == pytest.approx(rho / np.sqrt(1 - rho**2), rel=0.05)
    assert abs(pairs.x[2, 0]) > 50 * abs(pairs.x[:2, 0]).max() > 0


def test_unrelated_sides_have_no_canonical_pair(rng):
    x, y = (rng.standard_normal((2_000, d)).astype(np.float32) for d in (6, 3))
    assert canonical_pairs(x, y, rng).weights.size <= 1
