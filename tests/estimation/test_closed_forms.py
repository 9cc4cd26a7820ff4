"""The public function against closed forms and quadrature: a table of cases, each with the tolerance it deserves.

Tolerances are in nats and hold for the stated n: about three standard deviations of the estimate over samples, plus
the estimator's own bias where it is known. The seed is fixed, so that a red test is a change in the code.
"""

from __future__ import annotations

import numpy as np
import pytest

from mi_callback import mutual_information
from tests.ground_truth import (
    BITS,
    ClassConditional,
    DiscreteUniformMixture,
    Independent,
    LinearGaussianChain,
    NoisyNeuron,
    ReluAtom,
    bivariate,
    linear_readout,
    paired,
)
from tests.piecewise_linear import QuadraticRegression

SPACES = ("raw", "standard", "scores")


def estimate(case, n, *, seed=0, **options):
    x, y = case.sample(n, np.random.default_rng(seed))
    return mutual_information(x, y, unit="nats", **{"space": "scores", "n_permutations": 0, **options})


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6, 0.9, 0.99])
def test_bivariate_gaussian(rho, space):
    """Evidence: I = -1/2 log(1 - rho^2)."""
    case = bivariate(rho)
    assert estimate(case, 2000, space=space).raw == pytest.approx(case.mutual_information, abs=0.07)


@pytest.mark.parametrize(("d", "tolerance"), [(1, 0.06), (2, 0.06), (3, 0.12), (4, 0.20), (5, 0.32)])
def test_gaussian_pairs_in_one_to_five_dimensions(d, tolerance):
    """Evidence: I = -d/2 log(1 - rho^2); a kNN estimate on a fixed scale falls short as d grows, by .23 at 5."""
    case = paired(d, 0.6)
    assert estimate(case, 2000).raw == pytest.approx(case.mutual_information, abs=tolerance)


@pytest.mark.parametrize(("d", "tolerance"), [(1, 0.06), (2, 0.08), (3, 0.12), (4, 0.18), (5, 0.25)])
def test_gaussian_readout_in_one_to_five_dimensions(d, tolerance):
    """Evidence: I = 1/2 log(1 + 1 / noise^2) whatever d is."""
    case = linear_readout(d, 0.5)
    assert estimate(case, 2000).raw == pytest.approx(case.mutual_information, abs=tolerance)


def test_plain_ksg_falls_short_on_a_wide_side():
    """A known bias appears: on the raw scale a 32-d side against one target reads next to nothing of .80 nats."""
    case = linear_readout(32, 0.5)
    assert estimate(case, 1000, space="raw").raw < 0.3 * case.mutual_information


@pytest.mark.parametrize("metric", ["euclidean", "chebyshev"])
def test_metrics_agree_on_a_gaussian(metric):
    """Evidence: closed form; the metric changes the bias, not the value."""
    case = paired(2, 0.7)
    assert estimate(case, 2000, metric=metric).raw == pytest.approx(case.mutual_information, abs=0.08)


@pytest.mark.parametrize(
    "case",
    [
        Independent("normal", "normal", d=1),
        Independent("normal", "normal", d=5, q=2),
        Independent("heavy tails", "heavy tails"),
        Independent("skewed", "uniform"),
        Independent("half on an atom", "normal"),
        Independent("half on an atom", "half on an atom", d=1),
        Independent("lattice", "normal"),
        Independent("normal", "labels", d=4),
        Independent("half on an atom", "labels"),
    ],
    ids=lambda case: case.name,
)
def test_independent_pairs_lie_in_their_null_band(case):
    """Evidence: zero by construction. Five samples: their mean estimate within three standard errors of zero."""
    results = [estimate(case, 300, seed=seed, n_permutations=30) for seed in range(5)]
    spread = np.mean([result.null_std for result in results])
    assert abs(np.mean([result.mi for result in results])) < 3 * spread / np.sqrt(5) + 0.01
    assert np.median([result.p_value for result in results]) > 0.05


@pytest.mark.parametrize(
    "case",
    [ClassConditional((0.0, 2.0)), ClassConditional((0.0, 1.5, 4.0, 8.0)), ClassConditional((0.0, 3.0), d=3)],
    ids=lambda case: case.name,
)
@pytest.mark.parametrize("space", SPACES)
def test_class_conditional_gaussians(case, space):
    """Evidence: entropy of the mixture by quadrature."""
    result = estimate(case, 2000, space=space)
    assert result.raw == pytest.approx(case.mutual_information, abs=0.06)
    assert result.raw <= np.log(len(case.means)) + 0.02  # no more than H(Y)


@pytest.mark.parametrize("noise", [0.3, 0.5])
@pytest.mark.parametrize("precision", [np.float64, np.float32])
def test_half_the_mass_on_one_atom(noise, precision):
    """Evidence: quadrature. A ReLU layer's zeros are ties, in single precision too, and need no jitter."""
    case = ReluAtom(noise)
    t, y = case.sample(2000, np.random.default_rng(0))
    result = mutual_information(t.astype(precision), y, space="scores", unit="nats", n_permutations=20)
    assert result.raw == pytest.approx(case.mutual_information, abs=0.07)
    assert abs(result.null_mean) < 0.06


@pytest.mark.parametrize("m", [2, 5, 12])
def test_discrete_uniform_mixture(m):
    """Evidence: closed form (Gao et al. 2017); X as floats that repeat, and as labels."""
    case = DiscreteUniformMixture(m)
    x, y = case.sample(3000, np.random.default_rng(0))
    options = {"unit": "nats", "space": "scores", "n_permutations": 0}
    assert mutual_information(x, y, **options).raw == pytest.approx(case.mutual_information, abs=0.07)
    assert mutual_information(y, x.astype(int), **options).raw == pytest.approx(case.mutual_information, abs=0.07)


@pytest.mark.parametrize("case", [NoisyNeuron(0.02, 0.0, 0.1), NoisyNeuron(0.4, 0.2, 0.1)], ids=lambda case: case.name)
def test_noisy_neuron(case):
    """Evidence: entropy of a mixture of four, by quadrature; X takes four values."""
    x, t = case.sample(3000, np.random.default_rng(0))
    result = mutual_information(t, x.astype(int), unit="nats", space="scores", n_permutations=0)
    assert result.raw == pytest.approx(case.mutual_information, abs=0.05)


def test_linear_gaussian_chain():
    """Evidence: log-determinants of a noisy linear network of two inputs, both planes of both layers."""
    rng = np.random.default_rng(0)
    weights = (rng.standard_normal((2, 2)), rng.standard_normal((1, 2)))
    chain = LinearGaussianChain(weights, (0.5, 0.5), np.array([[0.8, 0.6]]), 0.4, np.eye(2))
    x, layers, y = chain.sample(3000, rng)
    options = {"unit": "nats", "space": "scores", "n_permutations": 0}
    for depth, t in enumerate(layers, start=1):
        assert mutual_information(x, t, **options).raw == pytest.approx(chain.with_input(depth), abs=0.1)
        assert mutual_information(t, y, **options).raw == pytest.approx(chain.with_target(depth), abs=0.1)


@pytest.mark.parametrize(("n", "low", "high"), [(350, 3.15, 3.47), (2000, 3.3, 3.6)])
def test_the_regression_in_bits(n, low, high):
    """Evidence: I(X;Y) = 3.4731797 bits by quadrature; a small sample resolves a little less."""
    x, y = QuadraticRegression().sample(n, np.random.default_rng(1))
    result = mutual_information(x, y, space="scores", n_permutations=20)
    assert low < result.raw < high
    assert result.p_value == pytest.approx(1 / 21)
    assert abs(result.null_mean) < 0.05


def test_bits_are_nats_over_log_two():
    """Evidence: definition; every number of the record carries the unit."""
    x, y = bivariate(0.8).sample(300, np.random.default_rng(0))
    bits = mutual_information(x, y, n_permutations=10, space="scores")
    nats = mutual_information(x, y, n_permutations=10, space="scores", unit="nats")
    for field in ("mi", "raw", "null", "null_mean", "null_std", "stderr"):
        np.testing.assert_allclose(getattr(bits, field), getattr(nats, field) * BITS)
    assert (bits.unit, nats.unit) == ("bits", "nats")
    assert bits.p_value == nats.p_value
