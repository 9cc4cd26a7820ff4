"""Permutations that do not depend on how many are asked for, and p-values that are never zero."""

from __future__ import annotations

import numpy as np
import pytest

from mi_callback.estimation import permutation
from mi_callback.estimation.permutation import Permutations, p_value


def test_each_row_is_a_permutation_and_none_is_the_same():
    batch = Permutations(50, 6, 0).batch(0, 6)
    assert (np.sort(batch, axis=1) == np.arange(50)).all()
    assert len(np.unique(batch, axis=0)) == 6


def test_batches_kept_or_not_are_parts_of_one_sequence(monkeypatch):
    whole = Permutations(50, 10, 3).batch(0, 10)
    np.testing.assert_array_equal(Permutations(50, 99, 3).batch(4, 9), whole[4:9])
    monkeypatch.setattr(permutation, "_KEEP_BYTES", 0)
    np.testing.assert_array_equal(Permutations(50, 10, 3).batch(0, 10), whole)
    assert (Permutations(50, 10, 4).batch(0, 10) != whole).any()


def test_p_value_counts_the_value_itself():
    assert p_value(1.0, np.zeros(99)) == pytest.approx(1 / 100)
    assert p_value(-1.0, np.zeros(99)) == 1.0
    assert p_value(0.0, np.array([])) is None


def test_p_value_takes_rounding_for_equality():
    assert p_value(0.1 + 0.2, np.array([0.3])) == 1.0


def test_p_value_of_nothing_is_nothing():
    assert np.isnan(p_value(np.nan, np.zeros(9)))
    assert np.isnan(p_value(1.0, np.array([0.0, np.nan])))
