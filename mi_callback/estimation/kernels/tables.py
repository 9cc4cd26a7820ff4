"""Making neighbour tables: choosing and sorting neighbours, filtering rows, counting beyond them."""

from __future__ import annotations

import numpy as np

from mi_callback.estimation.kernels.basics import EUCLIDEAN, INF, Table, compiled, count_limits, count_piece, distance

__all__ = ["count_nearer", "gather_candidates", "restrict_rows", "select_neighbors", "sorted_line_neighbors"]


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
def _all_above(row, limit):
    """Whether all entries lie above a limit; not, if one of them is not a number."""
    above = 0
    for j in range(row.size):
        above += row[j] > limit
    return above == row.size


@compiled
def gather_candidates(distances, start, margins, candidates, sizes):
    """Append the samples of a tile that may lie within a row's radius to its candidates.

    Args:
        distances: (B, t) approximate distances (Euclidean: squared) of rows to the samples from ``start`` on.
        start: the first of them.
        margins: (B,) distances up to which they may.
        candidates: (B, c) written.
        sizes: (B,) number of candidates so far, raised; more than c where there was no room for all.
    """
    n_rows, n_tile = distances.shape
    capacity = candidates.shape[1]
    for r in range(n_rows):
        size, margin = sizes[r], margins[r]
        has_room = size + n_tile < capacity
        for part_start in range(0, n_tile, 32):  # most parts hold none: looking that up vectorises
            part = distances[r, part_start : part_start + 32]
            if _all_above(part, margin):
                continue
            for j in range(part.size):
                if has_room:
                    candidates[r, size] = start + part_start + j
                    size += not part[j] > margin  # what overflowed is a candidate too
                elif not part[j] > margin:
                    if size < capacity:
                        candidates[r, size] = start + part_start + j
                    size += 1
        sizes[r] = size


@compiled
def select_neighbors(table: Table, rows, limits, candidates, sizes):
    """Compute the distances of candidates, sort them, and write the nearest.

    Args:
        table: its values are read, and its other arrays written for the rows.
        rows: (B,) rows of the table.
        limits: (B,) distances (Euclidean: squared) up to which all samples are among the candidates.
        candidates: (B, c) samples; used up.
        sizes: (B,) how many there are.
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
    n, width = leaders.size, indices.shape[1]
    spare = np.empty(candidates.shape[1], np.uint64)
    counts = np.empty(1025, np.int64)
    value = np.empty(1, np.float32)
    value_bits = value.view(np.uint32)
    for r in range(rows.size):
        at_row, limit, keys = rows[r], limits[r], candidates[r]
        i = table.samples[at_row]
        radius = np.sqrt(limit) if metric == EUCLIDEAN else limit
        kept = 0
        copies = 1
        leader = i
        for c in range(sizes[r]):
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
            distances[at_row, c] = value[0]
            indices[at_row, c] = np.uint32(keys[c] & np.uint64(0xFFFFFFFF))
        distances[at_row, length:] = INF
        lengths[at_row] = length
        if length == n - 1:
            radii[at_row] = INF
        elif kept > length:
            radii[at_row] = distances[at_row, length - 1]
        else:
            radii[at_row] = radius
        all_copies[at_row] = copies
        leaders[i] = leader


@compiled
def sorted_line_neighbors(table: Table, order, places, start, stop):
    """Write the neighbour rows of samples on a line, values (n, 1), from their sorting order; rows start to stop.

    Args:
        table: its values are read, and its other arrays written; not ``copies`` and ``leaders``.
        order: (n,) samples in ascending order.
        places: (rows,) place in that order of each row's sample.
        start, stop: rows.
    """
    x, indices, distances = table.values, table.indices, table.distances
    lengths, radii, farthest = table.lengths, table.radii, table.farthest
    n = order.size
    width = indices.shape[1]
    for at_row in range(start, stop):
        i, position = table.samples[at_row], places[at_row]
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
            indices[at_row, c] = j
            distances[at_row, c] = np.float32(abs(x[j, 0] - x[i, 0]))
        lengths[at_row] = length
        radii[at_row] = INF if length == n - 1 else distances[at_row, length - 1]
        farthest[at_row] = np.float32(max(x[order[n - 1], 0] - x[i, 0], x[i, 0] - x[order[0], 0]))


@compiled
def restrict_rows(table: Table, rows, local, start, stop, part: Table):
    """Filter the rows of a subset of samples to that subset.

    Args:
        table: all samples.
        rows: (r,) the rows of samples of the subset.
        local: (n,) place of each sample in the subset, or -1.
        start, stop: places in ``rows``.
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
def count_nearer(table: Table, rows, distances, start, slack, ratio, starts, epsilon, counts):
    """Add the samples of a tile whose distance times ``ratio`` is below each of a row's radii.

    Args:
        table: the samples.
        rows: (B,) rows of the table.
        distances: (B, t) approximate distances (Euclidean: squared) to the samples from ``start`` on.
        start: the first of them.
        slack: (B + 1,) bounds on their errors, as in a block.
        ratio: factor that turns the distances into the unit of the radii.
        starts: (B + 1,) the radii of row r are ``epsilon[starts[r]:starts[r + 1]]``.
        epsilon: radii, positive.
        counts: raised, the sample itself counted.
    """
    x, metric, samples = table.values, table.metric, table.samples
    for r in range(rows.size):
        i, row = samples[rows[r]], distances[r]
        for e in range(starts[r], starts[r + 1]):
            low, high = count_limits(epsilon[e], ratio, metric, slack[r], slack[rows.size])
            counts[e] += count_piece(row, start, x, i, metric, ratio, epsilon[e], low, high)
