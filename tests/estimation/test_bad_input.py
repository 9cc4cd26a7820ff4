"""Bad input has its own clear error: it names the argument, what was expected, what was got, and what to do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

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


@pytest.mark.parametrize("value", ["no", "auto", 2])
def test_discrete_is_yes_or_no(value):
    """On old code anything true was taken for True, "no" as well."""
    with pytest.raises(TypeError, match=f"discrete: expected True, False or None, got {value!r}"):
        mutual_information(X, Y, discrete=value)


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


LABELS = ["b" if v > 0.5 else "a" for v in Y]


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X, [None, *LABELS[1:]], r"y: .*got None in 1 of 50 samples \(first in sample 0\)"),
        (X, [float("nan"), *LABELS[1:]], r"y: .*got nan in 1 of 50"),
        (X, np.ma.array(Y, mask=Y > 1), r"y: .*samples masked.*Remove"),
        (X, np.datetime64("NaT") + np.arange(50), r"y: .*NaT in 50 of 50"),
        (LABELS, Y, r"x: expected real numbers, got strings such as [ab].*swap"),
        (X + 1j, Y, r"x: .*complex128.*real and imaginary"),
        (X, Y + 1j, r"y: .*complex128.*real and imaginary"),
        (X, [object()] * 50, r"y: expected numbers or strings, got objects of type object"),
        (X, ["a", 1] * 25, r"y: .*objects of type int, str"),
        ([[1.0, 2.0], [3.0]] * 25, Y, r"x: .*list that makes none.*same number of values"),
        ({"x": X}, Y, r"x: .*shape \(\) from dict"),
        (sparse.csr_array(X), Y, r"x: expected a dense array, got csr_array. Use x.toarray"),
        (torch.tensor(X).to_sparse(), Y, r"x: expected a dense tensor, got torch.sparse_coo. Use x.to_dense"),
    ],
)
def test_what_is_neither_numbers_nor_labels_is_named(x, y, message):
    with pytest.raises((TypeError, ValueError), match=rf"(?s)^{message}"):
        mutual_information(x, y)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (torch.tensor(X, requires_grad=True), torch.tensor(Y, requires_grad=True)),
        (X.astype(object), list(Y)),
        (np.ma.array(X), Y),
        (X, np.datetime64("2020-01-01", "ns") + (1e9 * Y).astype("timedelta64[ns]")),
    ],
)
def test_the_same_numbers_in_other_clothes_give_the_same(x, y):
    """Evidence: an identity, to the last bit but for times, which are whole nanoseconds."""
    expected = mutual_information(X, Y, n_permutations=2).raw
    assert mutual_information(x, y, n_permutations=2).raw == pytest.approx(expected, abs=1e-9)


def test_half_precisions_are_what_they_are_as_floats():
    x = torch.tensor(X, dtype=torch.bfloat16, requires_grad=True)
    expected = mutual_information(x.detach().float().numpy(), Y, n_permutations=0).raw
    assert mutual_information(x, Y, n_permutations=0).raw == expected


def test_data_frames_give_numbers_and_labels():
    """Evidence: an identity with the same values in arrays."""
    pandas = pytest.importorskip("pandas")
    expected = mutual_information(X, Y, n_permutations=0).raw
    assert mutual_information(pandas.DataFrame(X), pandas.Series(Y), n_permutations=0).raw == expected
    expected = mutual_information(X, LABELS, n_permutations=0).raw
    for labels in (pandas.Series(LABELS), pandas.Categorical(LABELS), np.array(LABELS, dtype=object)):
        estimate = mutual_information(X, labels, n_permutations=0)
        assert (estimate.estimator, estimate.raw) == ("ross", expected)
    with pytest.raises(ValueError, match=r"y: .*got <NA> in 1 of 50"):
        mutual_information(X, pandas.Series([None, *LABELS[1:]], dtype="string"))
