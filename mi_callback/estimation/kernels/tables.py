"""Making neighbour tables: choosing and sorting neighbours, filtering rows, counting beyond them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mi_callback.estimation.kernels.basics import EUCLIDEAN, INF, Block, Table, compiled, count_row, distance

__all__ = ["count_nearer", "restrict_rows", "select_neighbors", "sorted_line_neighbors"]


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
def select_neighbors(block: Block, probed: NDArray[np.float32], guess, table: Table):
    """Pick, recompute and sort the nearest neighbours of a block of rows.

    A first guess at a row's radius comes from its probed distances, so that one pass gathers the candidates.

    Args:
        block: the rows. Rows whose distances have lost too much to cancellation have been computed afresh.
        probed: (B, s) some of each row's distances, ascending.
        guess: which of them is the first guess; the last stands for no limit.
        table: its values are read, and its other arrays written for the rows.
    """
    x, metric = table.values, table.metric
    indices, distances, lengths, radii, all_copies, leaders = (
        table.indices,
        table.distances,
        table.lengths,
        table.radii,
        table.copies,
        table.leaders,
    )
    rows, approximates, slack = block.rows, block.distances, block.slack
    n, width = approximates.shape[1], indices.shape[1]
    keys = np.empty(n, np.uint64)
    spare = np.empty(n, np.uint64)
    counts = np.empty(1025, np.int64)
    value = np.empty(1, np.float32)
    value_bits = value.view(np.uint32)
    relative = slack[rows.size]
    last = probed.shape[1] - 1
    for r in range(rows.size):
        i, approximate, absolute = rows[r], approximates[r], slack[r]
        at = min(guess, last)
        while True:
            limit = max(probed[r, at], np.float32(0)) if at < last else INF
            margin = limit + absolute + relative * limit
            size = 0
            for j in range(n):
                keys[size] = j
                size += not approximate[j] > margin  # what overflowed is a candidate too
            if size > width or size == n:
                break
            at = min(last, at + max(2, at // 2))
        radius = np.sqrt(limit) if metric == EUCLIDEAN else limit
        kept = 0
        copies = 1
        leader = i
        for c in range(size):
            j = np.int64(keys[c])
            value[0] = distance(x, i, x, j, metric)
            if j == i or value[0] > radius:
                continue
            if value[0] == 0:
                copies += 1
                leader = min(leader, j)
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
        all_copies[i] = copies
        leaders[i] = leader


@compiled
def sorted_line_neighbors(table: Table, order, start, stop):
    """Write the neighbour rows of samples on a line, values (n, 1), from their sorting order; places start to stop.

    Args:
        table: its values are read, and its other arrays written; not ``copies`` and ``leaders``.
        order: (n,) samples in ascending order.
        start, stop: places in that order.
    """
    x, indices, distances = table.values, table.indices, table.distances
    lengths, radii, farthest = table.lengths, table.radii, table.farthest
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
def restrict_rows(table: Table, rows, local, start, stop, part: Table):
    """Filter the rows of a subset of samples to that subset.

    Args:
        table: all samples.
        rows: (r,) the subset.
        local: (n,) place of each sample in the subset, or -1.
        start, stop: places in the subset.
        part: the table of the subset; ``indices``, ``distances``, ``lengths`` and ``radii`` are written.
    """
    indices, distances = part.indices, part.distances
    all_indices, all_distances, all_lengths, all_radii, lengths, radii = (
        table.indices,
        table.distances,
        table.lengths,
        table.radii,
        part.lengths,
        part.radii,
    )
    width = indices.shape[1]
    for r in range(start, stop):
        i = rows[r]
        size = 0
        c = 0
        while c < all_lengths[i] and size < width:
            indices[r, size] = local[all_indices[i, c]]
            distances[r, size] = all_distances[i, c]
            size += local[all_indices[i, c]] >= 0
            c += 1
        distances[r, size:] = INF
        lengths[r] = size
        # A row that filled up early is complete only below the next distance in the parent's row.
        radii[r] = all_distances[i, c] if c < all_lengths[i] else all_radii[i]


@compiled
def count_nearer(table: Table, block: Block, ratio, starts, epsilon, counts):
    """Count the samples whose distance times ``ratio`` is below each of a row's radii; close calls are recomputed.

    Args:
        table: the samples.
        block: rows, with their distances.
        ratio: factor that turns the distances into the unit of the radii.
        starts: (B + 1,) the radii of row r are ``epsilon[starts[r]:starts[r + 1]]``.
        epsilon: radii, positive, ascending in each row.
        counts: written, the sample itself not counted.
    """
    x, metric, rows, slack = table.values, table.metric, block.rows, block.slack
    distances = block.distances
    for r in range(rows.size):
        for e in range(starts[r], starts[r + 1]):
            if e > starts[r] and epsilon[e] == epsilon[e - 1]:
                counts[e] = counts[e - 1]
            else:
                counts[e] = count_row(distances[r], x, rows[r], metric, ratio, epsilon[e], slack[r], slack[rows.size])
