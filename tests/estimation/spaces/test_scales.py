import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import ndtri
from scipy.stats import rankdata

from mi_callback.estimation.spaces import normal_scores, standardize

matrices = arrays(np.float64, st.tuples(st.integers(1, 30), st.integers(1, 3)), elements=st.integers(-4, 4).map(float))


@given(matrices)
def test_normal_scores_equal_the_quantiles_of_mean_ranks(values):
    expected = ndtri((rankdata(values, axis=0) - 0.5) / len(values))
    np.testing.assert_allclose(normal_scores(values), expected, atol=1e-12)


@given(matrices)
def test_normal_scores_do_not_see_monotone_maps(values):
    scores = normal_scores(values)
    assert (normal_scores(np.exp(values) * 7 - 3) == scores).all()
    assert (normal_scores(-values) == -scores).all()


def test_constant_columns_become_zero():
    values = np.column_stack([np.full(50, 0.1), np.arange(50.0)])
    for space in (standardize, normal_scores):
        assert (space(values)[:, 0] == 0).all()
        assert space(values)[:, 1].std() > 0.5
    assert (standardize(np.full((7, 1), 1e300)) == 0).all()


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_standardize_survives_offsets_and_extreme_scales(scale):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 2))
    z = standardize((x + 1e6) * scale)
    np.testing.assert_allclose(z, standardize(x), atol=1e-8)
    np.testing.assert_allclose((z**2).mean(axis=0), 1)


def test_inputs_are_left_alone_and_small_dtypes_are_widened():
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    before = x.copy()
    assert standardize(x).dtype == normal_scores(x).dtype == np.float64
    assert (x == before).all()


def test_strings_and_integers_have_ranks():
    letters, numbers = np.array([["b"], ["a"], ["b"]]), np.array([[1], [0], [1]])
    assert (normal_scores(letters) == normal_scores(numbers)).all()
