"""What the estimates of one epoch say of each other and of the limits: arrays only, no training."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mi_callback.collection import Collected
from mi_callback.estimation import Estimator, Flag
from mi_callback.monitoring.measuring import Measurer
from mi_callback.monitoring.publishing import layer_dimensions


def friedman(n, seed=0):
    """Friedman's first function of five of ten uniform inputs, with noise of variance 1 on top; Y holds 3.3 bits."""
    rng = np.random.default_rng(seed)
    x = rng.random((n, 10))
    f = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    return x, f[:, None], f[:, None] + 0.5 * rng.standard_normal((n, 1))


def collected(x, y, **layers):
    return Collected(inputs=x, targets=y, layers=layers, failures={}, n_samples=len(x))


def epoch(measurer, sweep):
    """The flags and values of an epoch, and the names of its limits, as the callback gets them."""
    measurer.prepare(sweep)
    results, limits = measurer.audit(list(measurer.measure(sweep)), list(sweep.layers), measurer.ceilings())
    return {(r.layer, r.quantity): r.estimate for r in results}, set(limits)


def test_usable_information_of_a_layer_withdraws_the_ceiling_that_it_refutes():
    """Neighbours among ten inputs read 1 bit of the 3.3 that a layer holds and a decoder gets out: no layer leaks."""
    x, f, y = friedman(500)
    measurer = Measurer(Estimator(n_permutations=0, space="scores"), ("target",), None)
    learnt, limits = epoch(measurer, collected(x, y, output=f))
    assert learnt["output", "usable"].mi > 2.5
    assert Flag.ABOVE_CEILING not in learnt["output", "target"].flags
    assert "I(X;Y)" not in limits
    raw, limits = epoch(measurer, collected(x, y, output=np.abs(f - f.mean())))  # a layer that is not read so well
    assert raw["output", "usable"].mi < 1.0
    assert "I(X;Y)" not in limits, "what was refuted once stays withdrawn"


def test_a_layer_above_a_ceiling_that_stands_is_flagged():
    """What no network can do: hold more on Y than X does. Truth: I(X;Y) = .5 bits."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 1))
    y = x + rng.standard_normal((500, 1))
    leak = np.abs(y) + 0.01 * rng.standard_normal((500, 1))  # folded, so that no linear decoder refutes the ceiling
    measurer = Measurer(Estimator(n_permutations=0, space="scores"), ("target",), None)
    found, limits = epoch(measurer, collected(x, y, honest=x, above=leak))
    assert "I(X;Y)" in limits
    assert Flag.ABOVE_CEILING in found["above", "target"].flags
    assert Flag.ABOVE_CEILING not in found["honest", "target"].flags


@pytest.mark.parametrize("n_classes", [2, 10])
def test_separable_classes_lie_at_their_entropy_not_above_it(n_classes):
    """Readings at H(Y) exceed it by up to .8 % with error bars of .1 % (27 cases of 100 to 1,000 samples)."""
    rng = np.random.default_rng(1)
    y = rng.integers(0, n_classes, 400)
    x = 50 * rng.standard_normal((n_classes, 32))[y] + rng.standard_normal((400, 32))
    measurer = Measurer(Estimator(space="scores"), ("target",), True)
    found, limits = epoch(measurer, collected(x, y[:, None], output=x))
    estimate = found["output", "target"]
    assert estimate.mi == pytest.approx(math.log2(n_classes), rel=0.02)
    assert "H(Y)" in limits
    assert Flag.ABOVE_CEILING not in estimate.flags


@pytest.mark.parametrize("quantities", [("target", "input"), ("input", "target")])
def test_the_dimension_of_a_layer_does_not_hang_on_the_order_of_quantities(quantities):
    """Under noise_std I(X;T) is read off a mixture, which has no dimension; that of the layer is the target's."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 2))
    sweep = collected(x, x[:, :1] + rng.standard_normal((300, 1)), net=x)
    measurer = Measurer(Estimator(n_permutations=0, space="scores"), quantities, None, (0.5,))
    measurer.prepare(sweep)
    results = list(measurer.measure(sweep))
    (target,) = (r.estimate for r in results if r.quantity == "target")
    assert layer_dimensions(results) == {"net": target.intrinsic_dim}
    assert math.isfinite(target.intrinsic_dim)


def test_the_noise_and_the_reduction_of_a_layer_are_fields():
    x = np.random.default_rng(0).standard_normal((100, 3))
    sweep = collected(x, None, net=x)
    sweep.reductions["net"] = "sparse random projection 20000 -> 3"
    measurer = Measurer(Estimator(n_permutations=0, space="scores"), ("input",), None, (0.1, 0.5))
    measurer.prepare(sweep)
    estimates = [r.estimate for r in measurer.measure(sweep)]
    assert [e.noise_std for e in estimates] == [0.1, 0.5]
    assert {e.reduction for e in estimates} == {"sparse random projection 20000 -> 3"}
