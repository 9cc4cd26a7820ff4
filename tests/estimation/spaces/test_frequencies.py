"""Oscillations that no moment of low order sees, found by their frequency."""

import numpy as np
import pytest

from mi_callback import mutual_information
from mi_callback.estimation.spaces.directions import informative_directions
from mi_callback.estimation.spaces.frequencies import oscillating_direction
from mi_callback.estimation.spaces.network import code_labels, polynomials


def draw(frequency, d, n, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)).astype(np.float32)
    return x, (np.sin(frequency * x[:, :1]) + 0.3 * rng.standard_normal((n, 1))).astype(np.float32)


@pytest.mark.parametrize(("frequency", "d", "n"), [(4, 3, 600), (4, 8, 1_500), (3, 16, 1_500), (2.5, 64, 2_000)])
def test_the_direction_is_found_where_moments_do_not_see_it(frequency, d, n):
    x, y = draw(frequency, d, n)
    by_moments = informative_directions(x, polynomials(y), np.random.default_rng(0))
    assert not (abs(by_moments[0]) > 0.97).any()
    direction = oscillating_direction(x, polynomials(y), np.random.default_rng(0))
    assert direction.shape == (d, 1)
    assert abs(direction[0, 0]) > 0.97


def test_classes_work_too():
    x, y = draw(4, 6, 1_500)
    functions = code_labels((y[:, 0] > 0).astype(int), 2).functions
    assert abs(oscillating_direction(x, functions, np.random.default_rng(0))[0, 0]) > 0.97


@pytest.mark.parametrize("d", [2, 10, 100])
def test_nothing_is_found_by_chance_or_with_few_samples(d):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        x, y = rng.standard_normal((800, d), dtype=np.float32), rng.standard_normal((800, 1), dtype=np.float32)
        assert oscillating_direction(x, polynomials(y), rng).shape == (d, 0)
        x, y = draw(4, d, 150)
        assert oscillating_direction(x, polynomials(y), rng).shape == (d, 0)


def test_an_oscillation_is_read_by_the_estimate():
    """The truth, by quadrature, is .861 nats; normal scores read nothing."""
    x, y = draw(4, 8, 3_000)
    assert mutual_information(x, y, space="scores", unit="nats", n_permutations=0).mi < 0.05
    result = mutual_information(x, y, unit="nats", n_permutations=0)
    assert result.mi == pytest.approx(0.861, abs=0.12)
    assert "index" in result.space
