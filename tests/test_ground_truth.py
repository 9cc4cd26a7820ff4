"""The truths themselves: numbers from the literature, and Monte Carlo or the oracle where there are none."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from tests import naive
from tests.ground_truth import (
    BITS,
    ClassConditional,
    DiscreteUniformMixture,
    LinearGaussianChain,
    NoisyNeuron,
    ReluAtom,
    bivariate,
    linear_readout,
    paired,
)
from tests.piecewise_linear import QuadraticRegression, relu_network


def test_one_dimensional_chain_by_hand():
    """Evidence: a chain small enough to work out on paper."""
    chain = LinearGaussianChain((np.array([[1.0]]), np.array([[0.8]])), (0.5, 0.3), np.eye(1), 0.5, np.eye(1))
    got = [chain.with_input(1), chain.with_input(2), chain.with_target(1), chain.with_target(2), chain.with_target(0)]
    np.testing.assert_allclose(np.array(got) * BITS, [1.16096, 0.91594, 0.73697, 0.61771, 1.16096], atol=1e-5)


def test_gaussians_agree_with_the_bivariate_formula():
    """Evidence: closed form; pairs add up, and a readout depends on its noise alone."""
    assert bivariate(0.9).mutual_information == pytest.approx(-0.5 * np.log(1 - 0.81))
    assert paired(4, 0.6).mutual_information == pytest.approx(4 * bivariate(0.6).mutual_information)
    assert linear_readout(5, 0.5).mutual_information == pytest.approx(0.5 * np.log(5))


@pytest.mark.parametrize(
    ("step_weights", "beta", "bits"),
    [((0.02, 0.0), 0.1, 0.131), ((0.02, 0.0), 0.01, 1.869)],
)
def test_noisy_neuron_before_training(step_weights, beta, bits):
    """Evidence: quadrature done elsewhere, in bits."""
    assert NoisyNeuron(*step_weights, beta).mutual_information * BITS == pytest.approx(bits, abs=1e-3)


@pytest.mark.parametrize(
    "case",
    [ClassConditional((0.0, 2.0)), ClassConditional((0.0, 0.0)), ReluAtom(), DiscreteUniformMixture(5)],
    ids=lambda case: case.name,
)
def test_quadrature_agrees_with_the_oracle(case):
    """Evidence: the brute-force estimator on 3,000 samples of a one-dimensional pair."""
    x, y = case.sample(3000, np.random.default_rng(5))
    got = naive.mutual_information(x, y, discrete=y.dtype.kind == "i")
    assert got == pytest.approx(case.mutual_information, abs=0.05)


def test_oracle_agrees_with_scikit_learn():
    """Evidence: an independent implementation; scikit-learn adds noise of 1e-10, hence the tolerance."""
    sklearn = pytest.importorskip("sklearn.feature_selection")
    rng = np.random.default_rng(0)
    x, labels = ClassConditional((0.0, 1.0, 3.0)).sample(400, rng)
    expected = sklearn.mutual_info_classif(x, labels, random_state=0)[0]
    assert naive.mutual_information(x, labels, space="raw", discrete=True) == pytest.approx(expected, abs=1e-6)
    x, y = bivariate(0.9).sample(400, rng)
    expected = sklearn.mutual_info_regression(x / x.std(), y[:, 0] / y.std(), random_state=0)[0]
    got = naive.mutual_information(x / x.std(), y / y.std(), space="raw", metric="chebyshev")
    assert got == pytest.approx(expected, abs=2e-3)  # scikit-learn scales y without removing its mean


def test_regression_ceiling():
    """Evidence: the value known to seven digits."""
    case = QuadraticRegression()
    assert case.mutual_information * BITS == pytest.approx(3.4731797, abs=1e-6)
    assert case.target_entropy == pytest.approx(2.2169254, abs=1e-6)


@pytest.mark.parametrize(
    ("knots", "values", "nats"),
    [
        ([-3, 3], [-3, 3], QuadraticRegression().mutual_information),  # one-to-one: nothing is lost
        ([-3, 0.5, 3], [3.5, 0, 2.5], QuadraticRegression().mutual_information),  # folds where the parabola does
        ([-3, 3], [1, 1], 0.0),  # dead: nothing is left
    ],
)
def test_piecewise_linear_layers_by_symmetry(knots, values, nats):
    """Evidence: what a layer keeps follows from symmetry alone."""
    got = QuadraticRegression().layer_information(np.array(knots, float), np.array(values, float)[:, None])
    assert got == pytest.approx(nats, abs=1e-6)


@pytest.mark.slow
def test_piecewise_linear_layer_that_loses_some():
    """Evidence: the oracle, on ReLU(X), which puts half the inputs on an atom, and on |X|, which folds them."""
    case = QuadraticRegression()
    x, y = case.sample(3000, np.random.default_rng(1))
    knots = np.array([-3.0, 0.0, 3.0])
    for values, layer in (([0.0, 0.0, 3.0], np.maximum(x, 0)), ([3.0, 0.0, 3.0], np.abs(x))):
        exact = case.layer_information(knots, np.array(values)[:, None])
        assert naive.mutual_information(layer, y) == pytest.approx(exact, abs=0.06)


def test_relu_network_is_reproduced_between_its_knots():
    """Evidence: the network itself, evaluated at random points."""
    rng = np.random.default_rng(3)
    sizes = (1, 8, 8, 8, 1)
    weights = [rng.standard_normal((b, a)) / np.sqrt(a) for a, b in pairwise(sizes)]
    biases = [rng.standard_normal(b) * 0.5 for b in sizes[1:]]
    x = rng.uniform(-3, 3, 500)
    activations = x[:, None]
    for depth, (knots, values) in enumerate(relu_network(weights, biases, -3, 3)):
        activations = activations @ weights[depth].T + biases[depth]
        if depth < len(weights) - 1:
            activations = np.maximum(activations, 0)
        between = np.column_stack([np.interp(x, knots, column) for column in values.T])
        np.testing.assert_allclose(between, activations, atol=1e-10)
