"""What the plain function says against its own estimates: the same as the callback says of the same arrays."""

from __future__ import annotations

import numpy as np
import pytest

from mi_callback import mutual_information
from mi_callback.estimation import Estimator, Flag, Variable
from mi_callback.estimation.layer_estimator import LayerEstimator


def few_per_class(rng):
    y = np.repeat([0, 1, 2], [120, 70, 6])
    return np.eye(3)[y] + 0.5 * rng.standard_normal((196, 3)), y


def dead_units(rng):
    x = rng.standard_normal((150, 6))
    x[:, 2] = 1.0
    return x, x[:, 0] + rng.standard_normal(150)


def below_usable(rng):
    """One linear direction among 24: neighbours in normal scores read next to nothing of it, a decoder 1.7 bits."""
    x = rng.standard_normal((300, 24))
    return x, x.sum(axis=1) / 24**0.5 + 0.3 * rng.standard_normal(300)


def below_usable_and_wide(rng):
    """Three classes by sums of twenty of 128 columns each."""
    x = rng.standard_normal((600, 128))
    return x, x[:, :60].reshape(600, 3, 20).sum(axis=2).argmax(axis=1)


def common_scale(rng):
    """Twenty columns each that share nothing but their scale."""
    scale = rng.uniform(0.5, 1.5, (500, 1))
    return rng.standard_normal((500, 20)) * scale, rng.standard_normal((500, 20)) * scale


CASES = {
    Flag.FEW_PER_CLASS: (few_per_class, "auto"),
    Flag.DEAD_UNITS: (dead_units, "auto"),
    Flag.BELOW_USABLE: (below_usable, "scores"),
    Flag.EITHER_WAY: (common_scale, "auto"),
}


@pytest.mark.parametrize(
    ("flag", "make", "space"),
    [
        *((flag, make, space) for flag, (make, space) in CASES.items()),
        (Flag.BELOW_USABLE, below_usable_and_wide, "scores"),
    ],
)
def test_the_function_raises_the_flags_of_the_callback(flag, make, space):
    """Evidence: what the callback asks of a layer; and a flag that each case is made to earn."""
    x, y = make(np.random.default_rng(3))
    plain = mutual_information(x, y, n_permutations=20, space=space)
    router = LayerEstimator(Estimator(n_permutations=20, space=space))
    router.use(None, Variable(y, name="y"))
    routed = router.target(Variable(x, discrete=False, name="layer"))[0].estimate
    assert flag in plain.flags
    assert plain.flags == routed.flags
    assert plain.mi == routed.mi


def test_a_plain_case_has_no_flag():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((600, 1))
    assert mutual_information(x, x[:, 0] + rng.standard_normal(600), n_permutations=20).flags == ()


@pytest.mark.parametrize("d", [32, 64])
def test_a_reading_far_below_the_null_says_that_it_means_nothing(d):
    """Two classes that differ in scale only: dependent for certain (.8 bits), read below every permutation."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 600)
    x = rng.standard_normal((600, d)) * np.where(y, 1.2, 0.8)[:, None]
    estimate = mutual_information(x, y, space="scores", n_permutations=30)
    assert estimate.mi < 0
    assert Flag.BELOW_NULL in estimate.flags
    assert Flag.WITHIN_NULL not in estimate.flags
    assert Flag.BELOW_NULL.is_doubt


def test_independence_is_within_the_null_not_below_it():
    """Twenty independent pairs; of 715 others of twelve kinds the lowest lay 3.3 standard deviations below the null."""
    for seed in range(20):
        rng = np.random.default_rng((seed, 8))
        x, y = rng.standard_normal((80, 8)), rng.integers(0, 3, 80)
        assert Flag.BELOW_NULL not in mutual_information(x, y, space="scores", n_permutations=30).flags
