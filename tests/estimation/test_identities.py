"""What must not change the estimate: the order of the samples, the names of the classes, the units of measurement."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mi_callback import mutual_information
from tests import naive
from tests.strategies import Samples, classes, pairs

SPACES = st.sampled_from(["raw", "standard", "scores"])


def in_nats(x, y, k=3, **options):
    return mutual_information(x, y, k=k, unit="nats", **{"space": "scores", "n_permutations": 0, **options}).raw


@given(pairs(max_n=80), SPACES, st.randoms(use_true_random=False))
def test_joint_reordering(samples: Samples, space, random):
    """Identity: a sample has no place in line."""
    order = list(range(samples.n))
    random.shuffle(order)
    x, y = samples.x, samples.y
    assert in_nats(x[order], y[order], samples.k, space=space) == pytest.approx(
        in_nats(x, y, samples.k, space=space), abs=1e-9
    )


@given(pairs(max_n=80), SPACES)
def test_symmetry(samples: Samples, space):
    """Identity: I(x;y) = I(y;x). Distances that tie across the sides may fall on either side of the radius."""
    forth = in_nats(samples.x, samples.y, samples.k, space=space)
    low, high = naive.bounds(samples.x, samples.y, k=samples.k, space=space)
    assert in_nats(samples.y, samples.x, samples.k, space=space) == pytest.approx(forth, abs=high - low + 1e-9)


@given(pairs(max_n=80), st.sampled_from(["standard", "scores"]))
def test_each_side_has_its_own_unit(samples: Samples, space):
    """Identity: scaling one side and shifting the other, by powers of two that are exact in floating point.

    The shift is left out for numbers that cannot be shifted exactly.
    """
    x, y = samples.x, samples.y
    plain = in_nats(x, y, samples.k, space=space)
    assert in_nats(1024 * x, y / 64, samples.k, space=space) == pytest.approx(plain, abs=1e-9)
    if np.array_equal((y + 4) - 4, y):
        assert in_nats(x, y + 4, samples.k, space=space) == pytest.approx(plain, abs=1e-9)


@pytest.mark.parametrize("space", ["standard", "scores"])
@pytest.mark.parametrize(("scale", "shift"), [(1e3, 0.0), (1e-6, 1.0), (-1.0, 5e3)])
def test_scale_and_shift(space, scale, shift):
    """Identity: to 1e-3 nats for scales and shifts that round."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 3))
    y = x.sum(axis=1) + rng.standard_normal(400)
    assert in_nats(scale * x + shift, y, space=space) == pytest.approx(in_nats(x, y, space=space), abs=1e-3)


def test_common_scale_on_the_raw_scale():
    """Identity: "raw" takes numbers as they are, so both sides may only be scaled alike."""
    x, y = np.random.default_rng(0).standard_normal((2, 200))
    assert in_nats(8 * x, 8 * y, space="raw") == pytest.approx(in_nats(x, y, space="raw"), abs=1e-12)
    assert in_nats(1e6 * x, x + y, space="raw") < 0.5 * in_nats(x, x + y, space="raw")


@given(pairs(max_n=60))
@pytest.mark.slow
def test_scores_see_ranks_alone(samples: Samples):
    """Identity: a rising map of any coordinate changes no rank, hence nothing."""
    x = samples.x / (1 + np.abs(samples.x).max())
    bent = x + x**3
    if all(len(np.unique(a)) == len(np.unique(b)) for a, b in zip(x.T, bent.T, strict=True)):
        assert in_nats(bent, samples.y, samples.k) == pytest.approx(in_nats(x, samples.y, samples.k), abs=1e-9)


@given(classes(max_n=80), SPACES)
def test_classes_may_have_any_names(samples: Samples, space):
    """Identity: integers, other integers, strings and one-hot rows name the same classes."""
    x, labels = samples.x, np.unique(samples.y, return_inverse=True)[1]
    assume(np.sum(np.bincount(labels)[labels] > 1) >= samples.k + 2)
    expected = in_nats(x, labels, samples.k, space=space, discrete=True)
    shuffled = np.random.default_rng(samples.seed).permutation(100)[labels]
    for same in (shuffled, np.array([f"class {label}" for label in labels])):
        assert in_nats(x, same, samples.k, space=space, discrete=True) == pytest.approx(expected, abs=1e-9)
    one_hot = np.eye(labels.max() + 1)[labels]
    assert in_nats(x, one_hot, samples.k, space=space, discrete=True) == pytest.approx(expected, abs=1e-9)


def test_order_of_coordinates_and_repeated_runs():
    """Identity: coordinates have no order, and the same call gives the same numbers, null and all."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 4))
    y = x[:, 0] + rng.standard_normal(300)
    assert in_nats(x[:, ::-1], y) == pytest.approx(in_nats(x, y), abs=1e-9)
    first, again = (mutual_information(x, y, space="scores", n_permutations=20, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.null, again.null)
    assert (first.raw, first.stderr) == (again.raw, again.stderr)
    other = mutual_information(x, y, space="scores", n_permutations=20, seed=4)
    assert first.raw == other.raw
    assert not np.array_equal(first.null, other.null)


def test_nothing_global_is_touched():
    """Identity: the caller's arrays, numpy's global generator and its error state are as they were."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((100, 2)), rng.standard_normal(100)
    kept, state, handling = x.copy(), np.random.get_state()[1].copy(), np.geterr()  # noqa: NPY002
    mutual_information(x, y, space="scores", n_permutations=5)
    np.testing.assert_array_equal(x, kept)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert np.geterr() == handling
