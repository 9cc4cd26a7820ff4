"""The forty public tasks: truths as printed in the paper, and samples as its definitions say."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import kstest

from benchmarks.beyond_normal import half_cube, spiral, swiss_roll, tasks, two_humps, wiggly_x, wiggly_y
from benchmarks.scoring import Row, Summary

TASKS = {case.name: case for case in tasks()}
PRINTED = {  # Czyz et al. 2023, figure 2, to two digits; how many of the forty tasks have it
    0.19: 1, 0.22: 2, 0.29: 3, 0.18: 1, 0.30: 1, 0.33: 1, 0.41: 7, 0.43: 2, 0.45: 2, 0.59: 1, 1.02: 16, 1.29: 1,
    1.62: 1, 1.71: 1,
}  # fmt: skip


def draw(name, n=20_000, seed=3):
    return TASKS[name].sample(n, np.random.default_rng(seed))


def test_truths_are_those_of_the_paper():
    """Evidence: the row of true values in the paper's table of the forty tasks."""
    assert Counter(round(case.truth, 2) for case in TASKS.values()) == PRINTED
    assert sum(PRINTED.values()) == len(TASKS)


def test_truths_by_hand():
    """Evidence: closed forms worked out apart from the code; the bivariate Cauchy's is log 8 pi - 3."""
    expected = {
        "normal 1 x 1": -math.log(1 - 0.75**2) / 2,
        "normal 25 x 25, two pairs": -math.log(1 - 0.8**2),
        "student 1 x 1, 1 degrees of freedom": math.log(8 * math.pi) - 3,
        "normal 2 x 2, dense": math.log(0.75**2 / (5 / 16)) / 2,
        "additive uniform noise 0.1": 0.1 - math.log(0.2),
        "additive uniform noise 0.75": 1 / 3,
    }
    assert {name: TASKS[name].truth for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize("case", TASKS.values(), ids=TASKS.keys())
def test_samples_are_finite_and_repeat_by_seed(case):
    x, y = case.sample(64, np.random.default_rng(1))
    again, _ = case.sample(64, np.random.default_rng(1))
    assert x.shape == (64, y.shape[1] + ("swiss" in case.name))
    assert np.isfinite(x).all()
    assert np.isfinite(y).all()
    np.testing.assert_array_equal(x, again)


def test_correlations():
    """Evidence: the definitions; a covariance of 20,000 samples is off by some .01."""
    x, y = draw("normal 5 x 5, dense")
    np.testing.assert_allclose(np.cov(x.T, y.T), 0.5 + 0.5 * np.eye(10), atol=0.04)
    x, y = draw("normal 5 x 5, two pairs")
    np.testing.assert_allclose(np.cov(x.T, y.T)[:5, 5:], np.diag([0.8, 0.8, 0, 0, 0]), atol=0.04)


@pytest.mark.parametrize(("name", "nu"), [("student 3 x 3, 2", 2), ("student 5 x 5, 3", 3), ("student 2 x 2, 1", 1)])
def test_tails(name, nu):
    """Evidence: each coordinate follows Student's distribution, and the two sides' sizes go together."""
    x, y = draw(f"{name} degrees of freedom")
    assert kstest(x[:, -1], "t", args=(nu,)).pvalue > 0.01
    bent, _ = draw(f"asinh of {name} degrees of freedom") if nu < 3 and "3 x 3" in name else (np.arcsinh(x), y)
    np.testing.assert_allclose(np.sinh(bent), x, rtol=1e-9)
    assert np.corrcoef(np.log((x**2).sum(1)), np.log((y**2).sum(1)))[0, 1] > 0.2


@pytest.mark.parametrize("share_left_right", [(0.3, 0, 5), (0.5, -1, 3)])
def test_bimodal_inverts_the_mixture(share_left_right):
    """Evidence: the mixture's distribution function takes every value back to the normal it came from."""
    share, left, right = share_left_right
    z = np.linspace(-4.5, 4.5, 181)
    x = two_humps(share, left, right)(z)
    np.testing.assert_allclose(ndtri(share * ndtr(x - left) + (1 - share) * ndtr(x - right)), z, atol=1e-8)


@pytest.mark.parametrize("rising", [half_cube, wiggly_x, wiggly_y, two_humps(0.3, 0, 5), two_humps(0.5, -1, 3)])
def test_maps_of_one_number_rise(rising):
    assert (np.diff(rising(np.linspace(-6, 6, 5_001))) > 0).all()


def test_spiral_keeps_norms_and_turns_back():
    """Evidence: by hand: (1, 0, 0) turns by 1/3 radian; the norm stays, so the opposite angle undoes it."""
    np.testing.assert_allclose(spiral(0)(np.array([[1.0, 0, 0]])), [[math.cos(1 / 3), math.sin(1 / 3), 0]])
    np.testing.assert_allclose(spiral(1)(np.array([[0, 0, 2.0]])), [[0, -2 * math.sin(4 / 3), 2 * math.cos(4 / 3)]])
    x = np.random.default_rng(0).standard_normal((50, 5))
    turned = spiral(1)(x)
    np.testing.assert_array_equal(turned[:, [0, 3, 4]], x[:, [0, 3, 4]])
    angle = (turned**2).sum(axis=1) / 5
    back = (turned[:, 1] + 1j * turned[:, 2]) * np.exp(-1j * angle)
    np.testing.assert_allclose(back, x[:, 1] + 1j * x[:, 2], atol=1e-12)


def test_spirals_turn_another_plane_of_each_side():
    """Evidence: the same seed draws the same normals, once bare and once behind maps."""
    for middle, first in (("", lambda v: v), ("normal cdf of ", ndtr)):
        plain = [first(side) for side in draw("normal 25 x 25, two pairs", 50)]
        for before, after, still in zip(
            plain, draw(f"spiral of {middle}normal 25 x 25, two pairs", 50), (2, 0), strict=True
        ):
            moved = ~np.isclose(before, after).all(axis=0)
            assert moved.nonzero()[0].tolist() == [i for i in range(3) if i != still]
            np.testing.assert_allclose((before**2).sum(1), (after**2).sum(1))


def test_swiss_roll_unrolls():
    """Evidence: the distance from the middle is the angle, which gives the uniform value back."""
    z = np.random.default_rng(2).standard_normal((100, 1))
    angle = 21 * np.hypot(*swiss_roll(z).T)
    np.testing.assert_allclose((angle / (1.5 * np.pi) - 1) / 2, ndtr(z[:, 0]), atol=1e-12)


def row(case, mi, *, low, high, doubted, truth=1.0):
    return Row(case, 100, 0, 1, 1, truth, mi, 0.0, low, high, (), doubted, 0.05, "ksg", "scores", 1.5, 1.0)


def test_summary_counts():
    """Evidence: four rows of two cases, by hand."""
    got = Summary.of(
        [
            row("a", 1.05, low=0.9, high=1.2, doubted=False),
            row("a", 0.95, low=1.01, high=math.inf, doubted=True),
            row("b", 0.60, low=0.5, high=math.inf, doubted=True),
            row("b", 1.40, low=1.3, high=1.5, doubted=False),
        ]
    )
    assert (got.mae, got.median, got.worst, got.within, got.cases) == pytest.approx((0.225, 0.225, 0.4, 1, 2))
    assert (got.coverage, got.low_above, got.open_top) == (0.5, 0.5, 0.5)
    assert (got.far, got.doubted, got.recall, got.precision, got.seconds) == (2, 2, 0.5, 0.5, 6.0)
    assert "MAE .225 median .225 worst .400 within .1: 1 of 2, coverage .50, low above truth .50" in str(got)
    calm = Summary.of([row("a", 0.02, low=0.0, high=0.1, doubted=False, truth=0.0)])
    assert math.isnan(calm.recall)
    assert "recall — of 0 far off, precision — of 0 flagged" in str(calm)
