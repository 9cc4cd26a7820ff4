"""Making neighbour tables: choosing and sorting neighbours, filtering rows, counting beyond them."""

from __future__ import annotations

import numpy as np
from numba import njit

from mi_callback.estimation.kernels.basics import (
    EUCLIDEAN,
    INF,
    compiled,
    count_row,
    distance,
    lower_bound_scaled,
)

__all__ = [
    "count_listed",
    "count_nearer",
    "distance_rows",
    "restrict_rows",
    "select_neighbors",
    "sorted_line_neighbors",
]


@compiled
def distance_rows(x, rows, metric, out):
    """Write the distances (Euclidean: squared) of ``x[rows]`` to all of x to ``out`` (rows, n); nothing cancels."""
    for r in range(rows.size):
        for j in range(x.shape[0]):
            out[r, j] = distance(x, rows[r], x, j, metric)
            if metric == EUCLIDEAN:
                out[r, j] *= out[r, j]


@njit(nogil=True, cache=True, fastmath={"nnan", "nsz", "reassoc"})
def _largest(row):
    """Largest of non-negative floats; the flags let the loop vectorise."""
    largest = np.float32(0)
    for j in range(row.size):
        largest = max(largest, row[j])
    return largest


@compiled
def _sort_keys(keys, size, spare, counts):
    """Sort the first ``size`` keys, bucketed by the distance in their upper half: half the time of a general sort.

    ``spare`` is as long as ``keys``; ``counts`` has one entry more than there are buckets.
    """
    zeros = 0  # coincident samples come first, in the order they are in: among the buckets they would stretch the range
    low, high = np.int64(1 << 32), np.int64(0)
    for c in range(size):
        value = np.int64(keys[c] >> np.uint64(32))
        if value == 0:
            keys[c], keys[zeros] = keys[zeros], keys[c]
            zeros += 1
        else:
            low, high = min(low, value), max(high, value)
    if size - zeros < 2:
        return
    buckets = min(counts.size - 1, size)
    scale = (buckets - 1) / (high - low + 1.0)
    counts[: buckets + 1] = 0
    for c in range(zeros, size):
        counts[int((np.int64(keys[c] >> np.uint64(32)) - low) * scale) + 1] += 1
    for b in range(buckets):
        counts[b + 1] += counts[b]
    for c in range(zeros, size):
        b = int((np.int64(keys[c] >> np.uint64(32)) - low) * scale)
        spare[zeros + counts[b]] = keys[c]
        counts[b] += 1
    for c in range(zeros, size):
        key = spare[c]
        at = c
        while at > zeros and keys[at - 1] > key:
            keys[at] = keys[at - 1]
            at -= 1
        keys[at] = key


@compiled
def select_neighbors(
    block, rows, x, slack, metric, probe, rank, indices, distances, lengths, radii, farthest, atoms, first
):
    """Pick, recompute and sort the nearest neighbours of a block of rows.

    A first guess at a row's radius comes from its probed distances, so that one pass gathers the candidates. Where the
    squared distances have lost too much to cancellation the row is computed afresh from differences.

    Args:
        block: (B, n) approximate distances (Euclidean: squared) of ``rows`` to all samples.
        rows: (B,) the samples that the rows of the block belong to.
        x: (n, d) values, for recomputing the distances that are kept.
        slack: (B + 1,) absolute bounds on the error in each row; last, the bound relative to the distance itself.
        metric: EUCLIDEAN or CHEBYSHEV.
        probe: (s,) columns that are looked at to guess a radius.
        rank: rank of the first guess among the probed distances.
        indices, distances, lengths, radii, farthest, atoms, first: the table's arrays, written at ``rows``.
    """
    n = block.shape[1]
    width = indices.shape[1]
    sample = np.empty(probe.size, np.float32)
    keys = np.empty(n, np.uint64)
    spare = np.empty(n, np.uint64)
    counts = np.empty(1025, np.int64)
    value = np.empty(1, np.float32)
    value_bits = value.view(np.uint32)
    relative = slack[rows.size]
    for r in range(rows.size):
        i = rows[r]
        approximate = block[r]
        absolute = slack[r]
        guess = min(rank, probe.size - 1)
        while True:
            limit = INF
            if guess < probe.size - 1:
                for c in range(probe.size):
                    sample[c] = approximate[probe[c]]
                limit = max(np.partition(sample, guess)[guess], np.float32(0))
            if not absolute <= np.float32(0.01) * limit:  # so that an overflow counts as well
                for j in range(n):
                    approximate[j] = distance(x, i, x, j, metric) ** 2
                absolute = np.float32(0)
                continue
            margin = limit + absolute + relative * limit
            size = 0
            for j in range(n):
                keys[size] = j
                size += not approximate[j] > margin  # what overflowed is a candidate too
            if size > width or size == n:
                break
            guess = min(probe.size - 1, guess + max(2, guess // 2))
        radius = np.sqrt(limit) if metric == EUCLIDEAN else limit
        kept = 0
        coincident = 1
        lowest = i
        for c in range(size):
            j = np.int64(keys[c])
            value[0] = distance(x, i, x, j, metric)
            if j == i or value[0] > radius:
                continue
            if value[0] == 0:
                coincident += 1
                lowest = min(lowest, j)
            keys[kept] = (np.uint64(value_bits[0]) << np.uint64(32)) | np.uint64(j)
            kept += 1
        # Non-negative floats order like their bit patterns: one integer sort orders by distance, then by index.
        _sort_keys(keys, kept, spare, counts)
        length = min(kept, width)
        for c in range(length):
            value_bits[0] = np.uint32(keys[c] >> np.uint64(32))
            distances[i, c] = value[0]
            indices[i, c] = np.uint32(keys[c] & np.uint64(0xFFFFFFFF))
        distances[i, length:] = INF
        lengths[i] = length
        if length == n - 1:
            radii[i] = INF
        elif kept > length:
            radii[i] = distances[i, length - 1]
        else:
            radii[i] = radius
        atoms[i] = coincident
        first[i] = lowest
        far = _largest(approximate)
        far += absolute + relative * far
        farthest[i] = np.sqrt(far) if metric == EUCLIDEAN else far


@compiled
def sorted_line_neighbors(x, order, start, stop, indices, distances, lengths, radii, farthest):
    """Neighbour rows of samples on a line, x (n, 1), from its sorting order; positions start to stop."""
    n = order.size
    width = indices.shape[1]
    for position in range(start, stop):
        i = order[position]
        below, above = position - 1, position + 1
        length = min(width, n - 1)
        for c in range(length):
            take_below = above >= n
            if below >= 0 and above < n:
                take_below = x[i, 0] - x[order[below], 0] <= x[order[above], 0] - x[i, 0]
            if take_below:
                j = order[below]
                below -= 1
            else:
                j = order[above]
                above += 1
            indices[i, c] = j
            distances[i, c] = np.float32(abs(x[j, 0] - x[i, 0]))
        lengths[i] = length
        radii[i] = INF if length == n - 1 else distances[i, length - 1]
        farthest[i] = np.float32(max(x[order[n - 1], 0] - x[i, 0], x[i, 0] - x[order[0], 0]))


@compiled
def restrict_rows(
    rows, local, parent_indices, parent_distances, parent_lengths, parent_radii, indices, distances, lengths, radii
):
    """Filter the rows of a subset of samples to that subset; ``local`` maps a sample to its place in it, or -1."""
    width = indices.shape[1]
    for r in range(rows.size):
        i = rows[r]
        size = 0
        c = 0
        while c < parent_lengths[i] and size < width:
            indices[r, size] = local[parent_indices[i, c]]
            distances[r, size] = parent_distances[i, c]
            size += local[parent_indices[i, c]] >= 0
            c += 1
        distances[r, size:] = INF
        lengths[r] = size
        # A row that filled up early is complete only below the next distance in the parent's row.
        radii[r] = parent_distances[i, c] if c < parent_lengths[i] else parent_radii[i]


@compiled
def count_listed(distances, lengths, ratio, rows, epsilon, counts):
    """Count, in each row, the listed neighbours whose distance times ``ratio`` is below a radius."""
    for r in range(rows.size):
        counts[r] = lower_bound_scaled(distances[rows[r]], lengths[rows[r]], ratio, epsilon[r])


@compiled
def count_nearer(block, rows, x, slack, metric, ratio, starts, epsilon, counts):
    """Count the samples whose distance times ``ratio`` is below each of a row's radii; close calls are recomputed.

    Args:
        block: (B, n) approximate distances (Euclidean: squared) of ``rows`` to all samples.
        rows: (B,) samples.
        x: (n, d) values.
        slack: (B + 1,) error bounds as for ``select_neighbors``.
        metric: EUCLIDEAN or CHEBYSHEV.
        ratio: factor that turns the distances into the unit of the radii.
        starts: (B + 1,) the radii of row r are ``epsilon[starts[r]:starts[r + 1]]``.
        epsilon: radii, positive, ascending in each row.
        counts: written, the sample itself not counted.
    """
    for r in range(rows.size):
        for e in range(starts[r], starts[r + 1]):
            if e > starts[r] and epsilon[e] == epsilon[e - 1]:
                counts[e] = counts[e - 1]
            else:
                counts[e] = count_row(block[r], x, rows[r], metric, ratio, epsilon[e], slack[r], slack[rows.size])
