"""Intrinsic dimension of clouds whose dimension is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mi_callback.estimation.dimension import intrinsic_dimension
from mi_callback.estimation.neighbors import NeighborTable


@pytest.mark.parametrize(("d", "tolerance"), [(1, 0.1), (2, 0.15), (3, 0.3), (5, 0.6)])
def test_dimension_of_a_subspace(d, tolerance):
    """Evidence: a Gaussian of d dimensions in 20, at n = 2000."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2000, d)) @ rng.standard_normal((d, 20))
    assert intrinsic_dimension(NeighborTable.build(x, 60)) == pytest.approx(d, abs=tolerance)


def test_dimension_of_a_curve():
    angle = np.random.default_rng(0).uniform(0, 6, 1500)
    x = np.stack([np.cos(angle), np.sin(angle), angle], axis=1)
    assert intrinsic_dimension(NeighborTable.build(x, 60)) == pytest.approx(1, abs=0.1)


def test_nothing_to_measure_is_nan():
    assert math.isnan(intrinsic_dimension(NeighborTable.build(np.zeros((40, 3)), 30)))
    assert math.isnan(intrinsic_dimension(NeighborTable.build(np.arange(3.0)[:, None], 2)))
