"""Reading a small sample directly: term by term what its neighbour table gives, duplicates included."""

import numpy as np
import pytest

from mi_callback.estimation.direct import read_directly
from mi_callback.estimation.estimators import read_table
from mi_callback.estimation.spaces.candidates import SCORES
from mi_callback.estimation.spaces.competition import neighbors_in


def pairs(n, d, q, *, repeats):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, d))
    y = x[:, :q] + 0.5 * rng.standard_normal((n, q))
    if repeats:  # of x alone, of y alone, and of both
        x[: n // 5] = x[n // 2 : n // 2 + n // 5]
        y[n // 10 : n // 4] = y[n // 2 + n // 10 : n // 2 + n // 4]
    return x.astype(np.float32), y.astype(np.float32)


@pytest.mark.parametrize("metric", ["euclidean", "chebyshev"])
@pytest.mark.parametrize("repeats", [False, True])
@pytest.mark.parametrize(("n", "d", "q"), [(40, 3, 1), (300, 20, 1), (300, 20, 4), (200, 1, 1)])
def test_values_equal_those_of_a_table(n, d, q, repeats, metric):
    x, y = pairs(n, d, q, repeats=repeats)
    expected = read_table(*neighbors_in(SCORES, x, y, k=3, metric=metric), 3).local
    np.testing.assert_allclose(read_directly(x, y, 3, metric), expected, atol=1e-9)


@pytest.mark.parametrize("repeats", [False, True])
def test_classes_equal_those_of_a_table_and_may_be_rare_or_missing(repeats):
    x, y = pairs(300, 10, 1, repeats=repeats)
    codes = np.digitize(y[:, 0], [-2.3, -0.5, 0.5]) + 1  # no class 0, few of class 1
    assert 2 <= (codes == 1).sum() < 15
    expected = read_table(*neighbors_in(SCORES, x, codes, k=3, metric="euclidean"), 3).local
    np.testing.assert_allclose(read_directly(x, codes, 3, "euclidean"), expected, atol=1e-9)


def test_an_offset_and_a_far_cluster_cost_no_neighbours():
    x, y = pairs(300, 5, 1, repeats=False)
    x[150:] += 1e4
    expected = read_table(*neighbors_in(SCORES, x.astype(np.float64), y, k=3, metric="euclidean"), 3).local
    assert read_directly(x, y, 3, "euclidean").mean() == pytest.approx(expected.mean(), abs=0.01)
