"""Bad input has its own clear error: it names the argument, what was expected, what was got, and what to do."""

from __future__ import annotations

import numpy as np
import pytest

from mi_callback import mutual_information
from mi_callback.estimation import Flag

X = np.random.default_rng(0).standard_normal((50, 2))
Y = X[:, 0] + 0.5


@pytest.mark.parametrize("k", [0, -1, 49, 50, 1000])
def test_k_must_leave_neighbours(k):
    with pytest.raises(ValueError, match=rf"(?s)\bk\b.*{k}"):
        mutual_information(X, Y, k=k)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["x", "y"])
def test_numbers_must_be_finite(bad, side):
    x, y = X.copy(), Y.copy()
    (x if side == "x" else y)[7] = bad
    with pytest.raises(ValueError, match=rf"(?si)\b{side}\b.*(finite|NaN|inf)"):
        mutual_information(x, y)


def test_sides_must_have_the_same_length():
    with pytest.raises(ValueError, match=r"(?s)50.*49|49.*50"):
        mutual_information(X, Y[:-1])


@pytest.mark.parametrize("shape", [(50, 2, 2), ()])
def test_sides_have_one_or_two_dimensions(shape):
    with pytest.raises(ValueError, match=r"\bx\b"):
        mutual_information(np.zeros(shape), Y)


def test_there_must_be_samples():
    with pytest.raises(ValueError, match=r"sample"):
        mutual_information(np.zeros((0, 2)), np.zeros(0))


@pytest.mark.parametrize(
    ("option", "value"),
    [("space", "scored"), ("metric", "cosine"), ("unit", "bit"), ("n_permutations", -1)],
)
def test_options_say_what_they_expect(option, value):
    with pytest.raises(ValueError, match=rf"(?s){option}.*{value}"):
        mutual_information(X, Y, **{option: value})


@pytest.mark.parametrize("space", ["raw", "standard", "scores", "auto"])
@pytest.mark.parametrize("side", ["x", "y", "labels"])
def test_a_constant_side_holds_nothing(space, side):
    x = np.full((50, 3), 2.5) if side == "x" else X
    y = {"x": Y, "y": np.full(50, -1.0), "labels": np.full(50, 4)}[side]
    result = mutual_information(x, y, space=space, n_permutations=5)
    assert result.mi == 0
    assert result.raw == 0
    assert Flag.CONSTANT in result.flags


def test_lists_and_integer_columns_are_understood():
    values = [[float(i), float(i % 7)] for i in range(40)]
    assert np.isfinite(mutual_information(values, [float(i) for i in range(40)], n_permutations=0).raw)
    assert mutual_information(values, [i % 2 for i in range(40)], n_permutations=0).estimator == "ross"


def test_single_members_are_left_out_and_flagged():
    labels = np.arange(50) % 3
    labels[10] = 9
    result = mutual_information(X, labels, space="scores", n_permutations=3)
    kept = np.arange(50) != 10
    assert Flag.SINGLETONS in result.flags
    assert result.n_samples == 49
    assert result.raw == pytest.approx(
        mutual_information(X[kept], labels[kept], space="scores", n_permutations=0).raw, abs=1e-9
    )
