"""Compiled scans over neighbour tables. Plain loops that release the GIL: callers run them on row chunks in threads.

Notation: n samples, d features, m table columns, k neighbours. A *row* lists a sample's neighbours in order of distance;
its *radius* is the distance below which the row is complete. Row r of a scan compares sample ``i`` on the side of the
table with sample ``permutation[i]`` on the side of the target. Counts follow Kraskov et al. (2004,
doi:10.1103/PhysRevE.69.066138, eq. 8): neighbours strictly nearer than the k-th, plus one. Where the k-th neighbour is
at distance zero on both sides they follow Gao et al. (2017, arXiv:1709.06212): all coincident samples, the sample itself
included, and the number of joint ones in place of k.

All distances are float32, so that a distance computed here equals the same distance in a table bit for bit.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = [
    "count_listed",
    "count_nearer",
    "distance_rows",
    "restrict_rows",
    "scan_labels",
    "scan_scalar",
    "scan_table",
    "select_neighbors",
    "sorted_line_neighbors",
]

_compiled = njit(nogil=True, cache=True)
# Sums over features may be reordered and fused, so that they vectorise; NaN and infinity keep their meaning.
_compiled_sum = njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})

EUCLIDEAN, CHEBYSHEV = 0, 1
INF = np.float32(np.inf)


@_compiled_sum
def _distance(x, i, y, j, metric):
    """Distance of row i of x and row j of y; the square for the Euclidean metric is summed in the type of x."""
    total = abs(x[i, 0] * 0)  # zero of the type of x; not -0, whose bits would sort last
    if metric == CHEBYSHEV:
        for c in range(x.shape[1]):
            total = max(total, abs(x[i, c] - y[j, c]))
        return np.float32(total)
    for c in range(x.shape[1]):
        difference = x[i, c] - y[j, c]
        total += difference * difference
    return np.float32(np.sqrt(total))


@_compiled
def distance_rows(x, rows, metric, out):
    """Write the distances (Euclidean: squared) of ``x[rows]`` to all of x to ``out`` (rows, n), without cancellation."""
    for r in range(rows.size):
        for j in range(x.shape[0]):
            out[r, j] = _distance(x, rows[r], x, j, metric)
            if metric == EUCLIDEAN:
                out[r, j] *= out[r, j]


@_compiled
def _insert(best, value):
    """Insert a value into an ascending array, dropping the last."""
    c = best.size - 1
    while c > 0 and best[c - 1] > value:
        best[c] = best[c - 1]
        c -= 1
    best[c] = value


@_compiled
def _lower_bound(row, length, value):
    """Number of the first ``length`` entries, ascending, that are below a value."""
    start = 0
    while length > 0:
        half = (length + 1) >> 1
        # Adding a product in place of a branch: the outcome cannot be predicted, and a wrong guess costs more.
        start += half * (row[start + half - 1] < value)
        length -= half
    return start


# ----------------------------------------------------------------------------------------------- making a table


@njit(nogil=True, cache=True, fastmath={"nnan", "nsz", "reassoc"})
def _largest(row):
    """Largest of non-negative floats; the flags let the loop vectorise."""
    largest = np.float32(0)
    for j in range(row.size):
        largest = max(largest, row[j])
    return largest


@_compiled
def _count_below(row, limit):
    """Number of entries below a limit."""
    count = 0
    for j in range(row.size):  # the plainest loop: it vectorises
        count += row[j] < limit
    return count


@_compiled
def _sort_keys(keys, size, spare, counts):
    """Sort the first ``size`` keys, bucketed by the distance in their upper half: half the time of a general sort.

    ``spare`` is as long as ``keys``; ``counts`` has one entry more than there are buckets.
    """
    if size < 2:
        return
    low = high = np.int64(keys[0] >> np.uint64(32))
    for c in range(1, size):
        value = np.int64(keys[c] >> np.uint64(32))
        low, high = min(low, value), max(high, value)
    buckets = min(counts.size - 1, size)
    scale = (buckets - 1) / (high - low + 1.0)
    counts[: buckets + 1] = 0
    for c in range(size):
        counts[int((np.int64(keys[c] >> np.uint64(32)) - low) * scale) + 1] += 1
    for b in range(buckets):
        counts[b + 1] += counts[b]
    for c in range(size):
        b = int((np.int64(keys[c] >> np.uint64(32)) - low) * scale)
        spare[counts[b]] = keys[c]
        counts[b] += 1
    for c in range(size):
        key = spare[c]
        at = c
        while at > 0 and keys[at - 1] > key:
            keys[at] = keys[at - 1]
            at -= 1
        keys[at] = key


@_compiled
def select_neighbors(
    block, rows, x, slack, metric, probe, rank, indices, distances, lengths, radii, farthest, atoms, first
):  # fmt: skip
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
            if absolute > np.float32(0.01) * limit:
                for j in range(n):
                    approximate[j] = _distance(x, i, x, j, metric) ** 2
                absolute = np.float32(0)
                continue
            margin = limit + absolute + relative * limit
            size = 0
            for j in range(n):
                keys[size] = j
                size += approximate[j] <= margin
            if size > width or size == n:
                break
            guess = min(probe.size - 1, guess + max(2, guess // 2))
        radius = np.sqrt(limit) if metric == EUCLIDEAN else limit
        kept = 0
        coincident = 1
        lowest = i
        for c in range(size):
            j = np.int64(keys[c])
            value[0] = _distance(x, i, x, j, metric)
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


@_compiled
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


@_compiled
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


@_compiled
def _lower_bound_scaled(row, length, ratio, value):
    """Number of the first ``length`` entries, ascending, that are below a value when multiplied by a ratio."""
    start = 0
    while length > 0:
        half = (length + 1) >> 1
        start += half * (row[start + half - 1] * ratio < value)
        length -= half
    return start


@_compiled
def count_listed(distances, lengths, ratio, rows, epsilon, counts):
    """Count, in each row, the listed neighbours whose distance times ``ratio`` is below a radius."""
    for r in range(rows.size):
        counts[r] = _lower_bound_scaled(distances[rows[r]], lengths[rows[r]], ratio, epsilon[r])


@_compiled
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
    n = block.shape[1]
    for r in range(rows.size):
        i = rows[r]
        approximate = block[r]
        for e in range(starts[r], starts[r + 1]):
            if e > starts[r] and epsilon[e] == epsilon[e - 1]:
                counts[e] = counts[e - 1]
                continue
            limit = epsilon[e] / ratio
            if metric == EUCLIDEAN:
                limit *= limit
            margin = slack[r] + slack[rows.size] * limit
            low, high = limit - margin, limit + margin
            count = 0
            for start in range(0, n, 512):  # few pieces hold a close call
                piece = approximate[start : start + 512]
                surely = _count_below(piece, low)
                count += surely
                if _count_below(piece, high) > surely:
                    for j in range(piece.size):
                        if low <= piece[j] < high:
                            count += _distance(x, i, x, start + j, metric) * ratio < epsilon[e]
            counts[e] = count - 1


# ------------------------------------------------------------------------------------- reading a table
#
# Each scan takes rows start to stop through a batch of P permutations and writes
#
#     sums      (P,) sum over the finished rows of psi(k) - psi(n_x + 1) - psi(n_y + 1);
#     local     (n,) the terms of the first permutation;
#     radii_out (P, n) -1 for a finished row; the radius of one whose k-th neighbour lies beyond a table, so that the
#               neighbours within the radius are still to be counted;
#     y_counts  (P, n) n_y + 1 of such a row, 0 if that is to be counted as well.
#
# ``scratch`` is (n,) of infinities and left as it was found: it holds the distances of the row at hand. ``first`` names
# the first of the samples that coincide with each, so that two samples coincide if it is the same.


@_compiled
def _within_line(line, position, below, above, epsilon):
    """Number of sorted values, the one at a position included, at a float32 distance below epsilon, walking inwards."""
    value = line[position]
    while below + 1 < position and np.float32(value - line[below + 1]) >= epsilon:
        below += 1
    while above - 1 > position and np.float32(line[above - 1] - value) >= epsilon:
        above -= 1
    return above - below - 1


@_compiled
def _walk_line(x, metric, i, scratch, line, samples, position, best, compute):
    """Put the k smallest max(dx, dy) of row i into ``best``, walking outwards from a position on the target's line.

    The sides take turns by stretches, which costs fewer wrong guesses of the processor than merging them would.

    Args:
        best: (k,) infinities, or an upper bound that is known to be reached.
        compute: whether distances that the row does not list are computed; otherwise they count as infinite.

    Returns:
        The first places on either side that were not taken in.
    """
    n = line.size
    value = line[position]
    kth = best[best.size - 1]
    below, above = position - 1, position + 1
    walking = True
    while walking:
        end = max(below - 16, -1)
        while below > end:
            dy = np.float32(value - line[below])
            if dy >= kth:
                break
            dx = scratch[samples[below]]
            if compute and dx == INF:
                dx = _distance(x, i, x, samples[below], metric)
            radius = max(dy, dx)
            if radius < kth:
                _insert(best, radius)
                kth = best[best.size - 1]
            below -= 1
        walking = below == end and below >= 0
        end = min(above + 16, n)
        while above < end:
            dy = np.float32(line[above] - value)
            if dy >= kth:
                break
            dx = scratch[samples[above]]
            if compute and dx == INF:
                dx = _distance(x, i, x, samples[above], metric)
            radius = max(dy, dx)
            if radius < kth:
                _insert(best, radius)
                kth = best[best.size - 1]
            above += 1
        walking |= above == end and above < n
    return below, above


@_compiled
def scan_scalar(
    x, metric, indices, distances, lengths, radii, atoms, first,
    positions, samples, line, line_atoms, psi, k, start, stop, scratch, local, sums, radii_out, y_counts,
):  # fmt: skip
    """KSG against values on a line.

    Args:
        x, metric, indices, distances, lengths, radii, atoms, first: neighbour table.
        positions: (P, n) place on the line of each sample's permuted target.
        samples: (P, n) the sample at each place.
        line: (n,) sorted target values.
        line_atoms: (n,) number of equal values at each place.
        psi: digamma of 0 to n + 1.
        k: number of neighbours.
        start, stop, scratch, local, sums, radii_out, y_counts: see above.
    """
    n = line.size
    best = np.empty(k, np.float32)
    sums[:] = 0.0
    for i in range(start, stop):
        row, row_indices = distances[i, : lengths[i]], indices[i, : lengths[i]]
        for c in range(row.size):
            scratch[row_indices[c]] = row[c]
        for p in range(positions.shape[0]):
            position = positions[p, i]
            best[:] = INF
            below, above = _walk_line(x, metric, i, scratch, line, samples[p], position, best, False)
            kth = best[k - 1]
            if kth > radii[i] or (kth == 0 and atoms[i] > row.size):
                best[:] = np.nextafter(kth, INF)
                below, above = _walk_line(x, metric, i, scratch, line, samples[p], position, best, True)
                kth = best[k - 1]
            if kth == 0:
                joint = 1
                for side in (-1, 1):
                    at = position + side
                    while 0 <= at < n and line[at] == line[position]:
                        joint += first[samples[p, at]] == first[i]
                        at += side
                term = psi[joint] - psi[atoms[i]] - psi[line_atoms[position]]
            else:
                y_count = _within_line(line, position, below, above, kth)
                if kth > radii[i]:
                    radii_out[p, i] = kth
                    y_counts[p, i] = y_count
                    continue
                term = psi[k] - psi[_lower_bound(row, row.size, kth) + 1] - psi[y_count]
            radii_out[p, i] = -1
            sums[p] += term
            if p == 0:
                local[i] = term
        for c in range(row.size):
            scratch[row_indices[c]] = INF


@_compiled
def scan_labels(
    x, metric, indices, distances, lengths, radii, atoms, first,
    labels, members, starts, psi, k, start, stop, local, sums, radii_out, y_counts,
):  # fmt: skip
    """Ross (2014) against class labels.

    Args:
        x, metric, indices, distances, lengths, radii, atoms, first: neighbour table.
        labels: (P, n) permuted class codes.
        members: (P, n) samples in order of their permuted class; class c holds ``members[p, starts[c]:starts[c + 1]]``,
            two samples at least.
        starts: (classes + 1,) see ``members``.
        psi: digamma of 0 to n + 1.
        k: number of neighbours; a class of m <= k members uses m - 1.
        start, stop, local, sums, radii_out, y_counts: see above.
    """
    best = np.empty(k, np.float32)
    for p in range(labels.shape[0]):
        label = labels[p]
        total = 0.0
        for i in range(start, stop):
            own = label[i]
            own_members = members[p, starts[own] : starts[own + 1]]
            wanted = min(k, own_members.size - 1)
            row, row_indices = distances[i, : lengths[i]], indices[i, : lengths[i]]
            found = 0
            c = row.size
            for at in range(row.size):
                found += label[row_indices[at]] == own
                if found == wanted:
                    c = at
                    break
            if c < row.size:
                kth = row[c]
            else:
                best[:] = INF
                for m in range(own_members.size):
                    if own_members[m] != i:
                        radius = _distance(x, i, x, own_members[m], metric)
                        if radius < best[k - 1]:
                            _insert(best, radius)
                kth = best[wanted - 1]
            if kth == 0:
                joint = 0
                for m in range(own_members.size):
                    joint += first[own_members[m]] == first[i]
                term = psi[joint] - psi[atoms[i]] - psi[own_members.size]
            elif kth > radii[i]:
                radii_out[p, i] = kth
                y_counts[p, i] = own_members.size
                continue
            else:
                c = min(c, row.size)
                while c > 0 and row[c - 1] >= kth:
                    c -= 1
                term = psi[wanted] - psi[c + 1] - psi[own_members.size]
            radii_out[p, i] = -1
            total += term
            if p == 0:
                local[i] = term
        sums[p] = total


@_compiled
def _complete_pair(
    x, metric, row, row_indices, radius_x, y, y_metric, y_row, y_row_indices, radius_y,
    ratio, permutation, inverse, i, scratch, best,
):  # fmt: skip
    """Put the k smallest max(dx, dy) into ``best``, which holds an upper bound, whatever the rows list.

    A candidate below the bound is in a row whose radius the bound does not pass; past both radii all samples are tried.
    """
    k = best.size
    partner = permutation[i]
    bound = best[k - 1]
    if bound <= radius_y:
        for at in range(y_row.size):
            dy = y_row[at] * ratio
            if dy >= best[k - 1]:
                break
            j = inverse[y_row_indices[at]]
            dx = scratch[j]
            if dx == INF:
                dx = _distance(x, i, x, j, metric)
            if max(dx, dy) < best[k - 1]:
                _insert(best, max(dx, dy))
    elif bound <= radius_x:
        for at in range(row.size):
            if row[at] >= best[k - 1]:
                break
            radius = max(row[at], _distance(y, partner, y, permutation[row_indices[at]], y_metric) * ratio)
            if radius < best[k - 1]:
                _insert(best, radius)
    else:
        for j in range(x.shape[0]):
            dx = scratch[j]
            if j == i or (dx != INF and dx >= best[k - 1]):
                continue
            dy = _distance(y, partner, y, permutation[j], y_metric) * ratio
            if dy < best[k - 1]:
                radius = max(dy, _distance(x, i, x, j, metric))
                if radius < best[k - 1]:
                    _insert(best, radius)


@_compiled
def scan_table(
    x, metric, indices, distances, lengths, radii, atoms, first,
    y, y_metric, y_indices, y_distances, y_lengths, y_radii, y_atoms, y_first,
    ratio, permutations, inverses, psi, k, start, stop, scratch, local, sums, radii_out, y_counts,
):  # fmt: skip
    """KSG by intersecting each row with the permuted partner's row of the target's table.

    Args:
        x, metric, indices, distances, lengths, radii, atoms, first: neighbour table.
        y, y_metric, y_indices, y_distances, y_lengths, y_radii, y_atoms, y_first: the target's table.
        ratio: unit of the table over unit of the target's: turns the target's distances into the table's.
        permutations, inverses: (P, n) which target goes with a sample, and which sample with a target.
        psi: digamma of 0 to n + 1.
        k: number of neighbours.
        start, stop, scratch, local, sums, radii_out, y_counts: see above.
    """
    best = np.empty(k, np.float32)
    sums[:] = 0.0
    for i in range(start, stop):
        row, row_indices = distances[i, : lengths[i]], indices[i, : lengths[i]]
        for c in range(row.size):
            scratch[row_indices[c]] = row[c]
        for p in range(permutations.shape[0]):
            partner = permutations[p, i]
            inverse = inverses[p]
            y_length = y_lengths[partner]
            y_row, y_row_indices = y_distances[partner, :y_length], y_indices[partner, :y_length]
            y_radius = y_radii[partner] * ratio
            best[:] = INF
            kth = INF
            for at in range(y_length):
                dy = y_row[at] * ratio
                if dy >= kth:
                    break
                radius = max(dy, scratch[inverse[y_row_indices[at]]])
                if radius < kth:
                    _insert(best, radius)
                    kth = best[k - 1]
            if kth > radii[i] or kth > y_radius:
                best[:] = np.nextafter(kth, INF)
                _complete_pair(
                    x, metric, row, row_indices, radii[i], y, y_metric, y_row, y_row_indices, y_radius,
                    ratio, permutations[p], inverse, i, scratch, best,
                )  # fmt: skip
                kth = best[k - 1]
            if kth == 0:
                joint = 0
                if y_atoms[partner] <= y_length:
                    joint = 1
                    for at in range(y_atoms[partner] - 1):
                        joint += first[inverse[y_row_indices[at]]] == first[i]
                else:
                    for j in range(first.size):
                        joint += first[j] == first[i] and y_first[permutations[p, j]] == y_first[partner]
                term = psi[joint] - psi[atoms[i]] - psi[y_atoms[partner]]
            else:
                y_count = 0
                if kth <= y_radius:
                    y_count = _lower_bound_scaled(y_row, y_length, ratio, kth) + 1
                if kth > radii[i] or y_count == 0:
                    radii_out[p, i] = kth
                    y_counts[p, i] = y_count
                    continue
                term = psi[k] - psi[_lower_bound(row, row.size, kth) + 1] - psi[y_count]
            radii_out[p, i] = -1
            sums[p] += term
            if p == 0:
                local[i] = term
        for c in range(row.size):
            scratch[row_indices[c]] = INF
