"""Reading a table: against the oracle under every permutation, whatever the width of the table and the threads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mi_callback.estimation import parallel, readings
from mi_callback.estimation.neighbors import NeighborTable
from mi_callback.estimation.permutation import Permutations
from mi_callback.estimation.readings import read_table
from mi_callback.estimation.targets import LabelTarget, ScalarTarget
from tests import naive

SHAPES = ["normal", "lattice", "relu", "copies", "heavy", "joint copies"]


def pair(seed, n, d, q, shape):
    """Dependent x (n, d) and y (n, q); values on quarters where ties are wanted, so that they are exact."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    y = x[:, :1] + rng.standard_normal((n, q))
    if shape == "lattice":
        return np.round(x), np.round(4 * y) / 4
    if shape == "relu":
        return np.maximum(x, 0), y
    if shape == "copies":
        return x[rng.integers(0, n // 2 + 1, n)], y
    if shape == "heavy":
        return rng.standard_cauchy((n, d)), y + 1e4
    if shape == "joint copies":
        rows = rng.integers(0, n // 2 + 1, n)
        return x[rows], y[rows]
    return x, y


def target_of(y, width, metric):
    return ScalarTarget.build(y[:, 0]) if y.shape[1] == 1 else NeighborTable.build(y, width, metric)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(10, 90),
    d=st.sampled_from([1, 2, 5, 24]),
    q=st.sampled_from([1, 2, 7]),
    k=st.integers(1, 5),
    width=st.sampled_from([1, 5, 20, 119]),
    shape=st.sampled_from(SHAPES),
    metric=st.sampled_from(["euclidean", "chebyshev"]),
)
def test_null_values_equal_fresh_estimates(seed, n, d, q, k, width, shape, metric):
    """Evidence: the oracle on permuted data. Tables are narrow on purpose: most rows have to be completed."""
    x, y = pair(seed, n, d, q, shape)
    permutations = Permutations(n, 3, seed % 1000)
    reading = read_table(NeighborTable.build(x, width, metric), target_of(y, width, metric), k, permutations)
    pairings = permutations.batch(0, 4)
    expected = [naive.mutual_information(x, y[p], k=k, metric=metric, space="raw") for p in pairings]
    np.testing.assert_allclose([reading.local.mean(), *reading.null], expected, atol=1e-3)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(12, 90),
    d=st.sampled_from([1, 2, 24]),
    classes=st.sampled_from([2, 5, 40]),
    k=st.integers(1, 5),
    width=st.sampled_from([1, 5, 119]),
    shape=st.sampled_from(SHAPES),
)
def test_null_values_of_labels_equal_fresh_estimates(seed, n, d, classes, k, width, shape):
    x, _ = pair(seed, n, d, 1, shape)
    labels = np.random.default_rng(seed).integers(0, classes, n)
    kept = np.bincount(labels)[labels] > 1
    if kept.sum() < 4:
        return
    x, labels = x[kept], labels[kept]
    permutations = Permutations(len(x), 3, 0)
    reading = read_table(NeighborTable.build(x, width), LabelTarget.build(labels), k, permutations)
    pairings = permutations.batch(0, 4)
    expected = [naive.mutual_information(x, labels[p], k=k, space="raw", discrete=True) for p in pairings]
    np.testing.assert_allclose([reading.local.mean(), *reading.null], expected, atol=1e-3)


@pytest.mark.parametrize("kind", ["scalar", "table", "labels"])
def test_same_numbers_whatever_the_threads_and_batches(kind, monkeypatch):
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((900, 20)), rng.standard_normal((900, 6))

    def run():
        if kind == "labels":
            target = LabelTarget.build(y[:, 0] > 0)
        else:
            target = ScalarTarget.build(y[:, 0]) if kind == "scalar" else NeighborTable.build(y, 60)
        reading = read_table(NeighborTable.build(x, 60), target, 3, Permutations(900, 8, 0))
        return np.concatenate([reading.local, reading.null])

    usual = run()
    for workers, batch in [(1, 101), (5, 101), (2, 3)]:
        monkeypatch.setattr(parallel, "n_workers", lambda workers=workers: workers)
        monkeypatch.setattr(readings, "_BATCH", batch)
        np.testing.assert_array_equal(run(), usual)


def test_rows_beyond_the_table_are_reported():
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((200, 4)), rng.standard_normal(200)
    target = ScalarTarget.build(y)
    assert read_table(NeighborTable.build(x, 3), target, 3).n_completed > 100
    assert read_table(NeighborTable.build(x, 199), target, 3).n_completed == 0
