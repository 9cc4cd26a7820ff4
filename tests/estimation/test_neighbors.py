"""The neighbour table against full distance matrices in float64."""

from __future__ import annotations

import numpy as np
import pytest

from mi_callback.estimation.neighbors import NeighborTable, balance_rank, default_width

RNG = np.random.default_rng(0)
CLOUDS = {
    "line": RNG.standard_normal((300, 1)),
    "plane": RNG.standard_normal((300, 2)),
    "features": RNG.standard_normal((300, 40)),
    "offset": RNG.standard_normal((300, 30)) + 1e4,
    "scales": RNG.standard_normal((300, 8)) * 10.0 ** np.arange(-4, 4),
    "heavy": RNG.standard_cauchy((300, 24)),
    "lattice": RNG.integers(0, 2, (300, 3)).astype(float),
    "copies": RNG.standard_normal((60, 20))[RNG.integers(0, 60, 300)],
    "half dead": np.maximum(RNG.standard_normal((300, 1)), 0) * np.ones((1, 20)),
    "far clusters": RNG.standard_normal((300, 32)) * 1e-3 + 1e3 * RNG.integers(0, 2, (300, 1)),
}


def distances(x, metric="euclidean"):
    """Full (n, n) distances by differences, infinite on the diagonal."""
    apart = np.abs(x[:, None] - x[None])
    full = apart.max(axis=2) if metric == "chebyshev" else np.sqrt((apart**2).sum(axis=2))
    np.fill_diagonal(full, np.inf)
    return full


@pytest.mark.parametrize("metric", ["euclidean", "chebyshev"])
@pytest.mark.parametrize("width", [5, 60, 299])
@pytest.mark.parametrize("cloud", CLOUDS)
def test_rows_hold_the_nearest_in_order(cloud, width, metric):
    """Evidence: brute force. Listed distances are right, ascending, and complete below the row's radius."""
    x = CLOUDS[cloud]
    table = NeighborTable.build(x, width, metric)
    full = distances(x, metric) * table.unit
    for i in range(len(x)):
        length = table.lengths[i]
        listed = table.indices[i, :length]
        assert i not in listed
        assert len(set(listed.tolist())) == length
        np.testing.assert_allclose(table.distances[i, :length], full[i][listed], rtol=1e-6)
        assert (np.diff(table.distances[i, :length]) >= 0).all()
        nearer = np.flatnonzero(full[i] < table.radii[i] * (1 - 1e-6))
        assert set(nearer.tolist()) <= set(listed.tolist())
        assert full[i][np.isfinite(full[i])].max() <= table.farthest[i] * (1 + 1e-6)
        assert table.copies[i] == 1 + (full[i] == 0).sum()
        assert table.leaders[i] == min(i, *np.flatnonzero(full[i] == 0), i)


def test_equal_rows_are_at_exactly_zero():
    x = np.repeat(RNG.standard_normal((50, 64)) * 100 + 1e4, 2, axis=0)
    assert (NeighborTable.build(x, 10).distances[:, 0] == 0).all()


@pytest.mark.parametrize("metric", ["euclidean", "chebyshev"])
@pytest.mark.parametrize("ratio", [1.0, 0.37])
@pytest.mark.parametrize("cloud", ["line", "features", "heavy", "far clusters", "half dead"])
def test_counts_beyond_the_table(cloud, ratio, metric):
    """Evidence: brute force, with radii halfway between distances, where nothing is too close to call."""
    x = CLOUDS[cloud]
    table = NeighborTable.build(x, 6, metric)
    full = np.sort(distances(x, metric), axis=1) * table.unit
    rows = np.repeat(np.arange(300), 4)
    place = np.tile([2, 40, 150, 290], 300)
    radii = (full[rows, place - 1] + full[rows, place]) / 2
    apart = full[rows, place] - full[rows, place - 1] > 1e-4 * full[rows, place]
    counts = table.count_nearer(rows, (radii * ratio).astype(np.float32), ratio)
    np.testing.assert_array_equal(counts[apart], place[apart])
    assert apart.mean() > 0.2


def test_everything_is_nearer_than_a_large_radius():
    table = NeighborTable.build(CLOUDS["features"], 6)
    assert (table.count_nearer(np.arange(300), np.full(300, 1e6, np.float32)) == 299).all()


@pytest.mark.parametrize("cloud", ["line", "features", "copies"])
@pytest.mark.parametrize("width", [None, 7])
def test_restricted_rows_equal_a_table_of_the_subset(cloud, width):
    x = CLOUDS[cloud]
    rows = np.sort(RNG.permutation(300)[:120])
    part = NeighborTable.build(x, 100).restricted(rows, width)
    full = distances(x[rows]) * part.unit
    for i in range(len(rows)):
        length = part.lengths[i]
        np.testing.assert_allclose(part.distances[i, :length], np.sort(full[i])[:length], rtol=1e-6)
        np.testing.assert_allclose(part.distances[i, :length], full[i][part.indices[i, :length]], rtol=1e-6)
        assert (full[i] < part.radii[i] * (1 - 1e-6)).sum() <= length
        assert part.copies[i] == 1 + (full[i] == 0).sum()


def test_unit_is_the_median_distance_to_the_ranked_neighbour():
    x = CLOUDS["features"]
    rank = balance_rank(300, 3)
    table = NeighborTable.build(x, default_width(300, 3), unit_rank=rank)
    assert rank == 30
    nearest = np.sort(distances(x), axis=1)
    expected = nearest[:, 0] / np.median(nearest[:, rank - 1])
    np.testing.assert_allclose(table.distances[:, 0] / table.unit, expected, rtol=1e-6)


def test_unit_of_samples_that_mostly_coincide_is_positive():
    x = np.zeros((100, 2))
    x[:5] = RNG.standard_normal((5, 2))
    assert NeighborTable.build(x, 60, unit_rank=17).unit > 0
    assert NeighborTable.build(np.zeros((100, 2)), 60, unit_rank=17).unit == 1


@pytest.mark.parametrize("d", [2, 3, 12])
@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e200])
def test_no_scale_is_too_small_or_too_large(scale, d):
    """Evidence: the same rows at unit scale; squares of these values leave the range of floats."""
    x = RNG.standard_normal((200, d))
    usual, table = NeighborTable.build(x, 20), NeighborTable.build(x * scale, 20)
    np.testing.assert_array_equal(table.indices, usual.indices)
    wide = [t.distances.astype(np.float64) / t.unit for t in (table, usual)]
    np.testing.assert_allclose(wide[0] / scale, wide[1], rtol=1e-5)


@pytest.mark.parametrize("n", [50, 300])
@pytest.mark.parametrize("d", [3, 8])
def test_a_sample_beyond_the_range_of_squares_does_not_disturb_the_others(n, d):
    """Evidence: brute force; 1e25 squared is no single-precision number."""
    x = RNG.standard_normal((n, d))
    x[7] *= 1e25
    table = NeighborTable.build(x, n - 1)
    full = distances(x) * table.unit
    for i in range(n):
        np.testing.assert_allclose(table.distances[i, : n - 2], np.sort(full[i])[: n - 2], rtol=1e-5)


@pytest.mark.parametrize("d", [64, 512])
def test_counts_are_exact_where_rounding_adds_up(d):
    """Evidence: brute force on samples whose features all agree, the worst case of a matrix product."""
    x = np.repeat(RNG.standard_normal((400, 1)), d, axis=1)
    table = NeighborTable.build(x, 3)
    full = np.sort(distances(x), axis=1) * table.unit
    rows = np.arange(400)
    radii = ((full[:, 199] + full[:, 200]) / 2).astype(np.float32)
    apart = full[:, 200] - full[:, 199] > 1e-5 * full[:, 200]
    np.testing.assert_array_equal(table.count_nearer(rows, radii)[apart], np.full(apart.sum(), 200))
