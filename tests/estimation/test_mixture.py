"""I(X; T + sigma Z) against closed forms and quadrature."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mi_callback.estimation.mixture import mixture_information
from mi_callback.estimation.permutation import stream
from tests.ground_truth import NoisyNeuron

BITS = 1 / math.log(2)


def gaussian_truth(d: int, sigma: float) -> float:
    return d / 2 * math.log2(1 + 1 / sigma**2)


@pytest.mark.parametrize(("d", "sigma"), [(4, 0.3), (8, 1.0), (16, 1.0)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gaussian_layers_in_bits(d, sigma, seed):
    s = np.random.default_rng(seed).standard_normal((4000, d))
    terms = mixture_information(s, sigma, seed=seed)
    plain, extrapolated = terms.local.mean() * BITS, (2 * terms.local.mean() - terms.half) * BITS
    truth = gaussian_truth(d, sigma)
    assert plain == pytest.approx(truth, abs=0.55)  # log n is near: it falls short
    assert extrapolated == pytest.approx(truth, abs=0.4)
    assert plain < extrapolated


def test_bounds_hold_the_estimate_between_them():
    rng = np.random.default_rng(0)
    for d, sigma in [(1, 0.1), (3, 0.5), (16, 2.0)]:
        terms = mixture_information(rng.standard_normal((1500, d)), sigma)
        assert terms.lower < terms.local.mean() < terms.upper


def test_equals_the_plain_sum_over_all_samples():
    rng = np.random.default_rng(3)
    s = 5 + 2 * rng.standard_normal((2100, 3))
    terms = mixture_information(s, 0.5, seed=7)
    noise = stream(7, 0x3A7)
    noise.permutation(2100)
    z = noise.standard_normal(s.shape)
    squared = (((s + 0.5 * z)[:, None] - s[None]) ** 2).sum(-1) / (2 * 0.25)
    local = -np.log(np.exp(-squared).mean(1)) - 1.5
    excess = 0.5 * ((z**2).sum(1) - 3)
    slope = np.cov(local, excess)[0, 1] / excess.var(ddof=1)
    assert terms.local.mean() == pytest.approx(np.mean(local - slope * excess), abs=2e-3)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_large_offsets_do_not_matter(offset):
    s = np.random.default_rng(0).standard_normal((500, 2))
    assert mixture_information(s + offset, 0.1).local.mean() == pytest.approx(
        mixture_information(s, 0.1).local.mean(), abs=1e-6
    )


def test_large_spread_over_noise_is_done_in_double_precision():
    s = np.random.default_rng(0).standard_normal((800, 2)) * 1e5
    assert mixture_information(s, 1.0).local.mean() == pytest.approx(math.log(800), abs=1e-3)


def test_refuses_noise_lost_in_rounding():
    with pytest.raises(ValueError, match="a millionth of the activations' spread"):
        mixture_information(np.array([[0.0], [1e9]]), 1.0)


# w and b of the neuron along its training, see tests for examples; here any values do.
@pytest.mark.parametrize(("w", "b", "beta"), [(0.05, -0.1, 0.1), (0.6, -0.7, 0.1), (2.0, -4.0, 0.1), (0.6, -0.7, 0.01)])
def test_noisy_neuron(w, b, beta):
    case = NoisyNeuron(w, b, beta)
    x = np.repeat([-3.0, -1.0, 1.0, 3.0], 500)
    terms = mixture_information(np.tanh(w * x + b), beta)
    assert terms.local.mean() == pytest.approx(case.mutual_information, abs=0.03)


def test_standard_error_covers_the_spread_over_samples():
    values, errors = [], []
    for seed in range(30):
        terms = mixture_information(np.random.default_rng(seed).standard_normal((400, 2)), 0.5, seed=seed)
        values.append(terms.local.mean())
        errors.append(terms.local.std() / math.sqrt(400))
    assert np.std(values) == pytest.approx(np.mean(errors), rel=0.45)


def test_same_seed_same_number():
    s = np.random.default_rng(0).standard_normal((300, 2))
    np.testing.assert_array_equal(mixture_information(s, 0.3, seed=4).local, mixture_information(s, 0.3, seed=4).local)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf])
def test_refuses_noise_that_is_none(sigma):
    with pytest.raises(ValueError, match="noise_std: expected a positive"):
        mixture_information(np.zeros((10, 1)), sigma)


def test_refuses_nan():
    with pytest.raises(ValueError, match="activations: expected finite"):
        mixture_information(np.array([[1.0], [np.nan]]), 1.0)
