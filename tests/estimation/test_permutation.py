"""Permutations that do not depend on how many are asked for, and p-values that are never zero."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from mi_callback.estimation.permutation import Permutations, p_value


def test_each_row_is_a_permutation_and_none_is_the_same():
    batch = Permutations(50, 6, 0).batch(0, 6)
    assert (np.sort(batch, axis=1) == np.arange(50)).all()
    assert len(np.unique(batch, axis=0)) == 6


def test_batches_are_parts_of_one_sequence():
    whole = Permutations(50, 10, 3).batch(0, 10)
    np.testing.assert_array_equal(Permutations(50, 99, 3).batch(4, 9), whole[4:9])
    assert (Permutations(50, 10, 4).batch(0, 10) != whole).any()


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_data_made_with_the_same_seeds_are_not_what_permutes_them(seed):
    """Evidence: users' own generators. By chance one place of a permutation is equal."""
    ours = Permutations(400, 5, seed).batch(0, 5)
    theirs = [np.random.default_rng(one).permutation(400) for one in (seed, *[(seed, p) for p in range(5)])]
    theirs += [one.permutation(400) for one in np.random.default_rng(seed).spawn(5)]
    assert max((p == q).sum() for p in ours for q in theirs) < 10


def test_permutations_are_not_kept_for_the_life_of_the_process():
    """Evidence: what the module's memory holds after a large batch was given back."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        Permutations(100_000, 20, 0).batch(0, 20)
        assert tracemalloc.get_traced_memory()[0] - before < 1_000_000
    finally:
        tracemalloc.stop()


def test_p_value_counts_the_value_itself():
    assert p_value(1.0, np.zeros(99)) == pytest.approx(1 / 100)
    assert p_value(-1.0, np.zeros(99)) == 1.0
    assert p_value(0.0, np.array([])) is None


def test_p_value_takes_rounding_for_equality():
    assert p_value(0.1 + 0.2, np.array([0.3])) == 1.0


def test_p_value_of_nothing_is_nothing():
    assert np.isnan(p_value(np.nan, np.zeros(9)))
    assert np.isnan(p_value(1.0, np.array([0.0, np.nan])))
