import numpy as np
import pytest

from mi_callback.estimation.spaces.directions import informative_directions
from mi_callback.estimation.spaces.network import code_coordinates, code_labels, polynomials

N, D = 4_000, 20
CASES = {
    "linear": lambda u: u[:, 0],
    "even": lambda u: u[:, 0] ** 2,
    "product": lambda u: u[:, 0] * u[:, 1],
    "spread": lambda u: np.exp(u[:, 0]) * np.random.default_rng(9).standard_normal(len(u)),
}


@pytest.mark.parametrize("case", CASES)
def test_directions_that_matter_are_found(case):
    rng = np.random.default_rng(1)
    basis = np.linalg.qr(rng.standard_normal((D, 2)))[0]
    x = rng.standard_normal((N, D))
    y = CASES[case](x @ basis) + 0.3 * rng.standard_normal(N)
    scores = (np.argsort(np.argsort(y)) / N - 0.5)[:, None].astype(np.float32) * 3.4
    found = informative_directions(x.astype(np.float32), polynomials(scores), rng)
    wanted = basis if case == "product" else basis[:, :1]
    # The cosine of the largest angle between what is wanted and the span of what was found.
    assert np.linalg.svd(found.T @ wanted, compute_uv=False).min() > 0.95


@pytest.mark.parametrize("width", [20, 150, 300])
def test_independence_leaves_next_to_nothing(width):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((2_000, width)).astype(np.float32)
    y = rng.standard_normal((2_000, 1)).astype(np.float32)
    assert informative_directions(x, polynomials(y), rng).shape[1] <= 2


def test_labels_that_differ_in_shape_alone():
    rng = np.random.default_rng(3)
    labels = rng.integers(2, size=N)
    x = rng.standard_normal((N, D)).astype(np.float32)
    x[:, 4] *= np.where(labels, 1.4, 0.4)
    found = informative_directions(x, code_labels(labels, 2).functions, rng)
    assert abs(found[4]).max() > 0.98


def test_slices_share_the_samples_out_evenly():
    coded = code_coordinates(np.random.default_rng(4).standard_normal((800, 2)).astype(np.float32))
    assert coded.n_groups == 2
    assert coded.indicators.shape == (800, 16)
    assert (coded.indicators.sum(axis=0) == 100).all()
    assert code_coordinates(np.zeros((60, 1), np.float32)).indicators.shape == (60, 2)
