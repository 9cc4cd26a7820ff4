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
    "complete_labels",
    "complete_scalar",
    "complete_table",
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
def count_listed(distances, lengths, ratio, rows, epsilon, counts):
    """Count, in each row, the listed neighbours whose distance times ``ratio`` is below a radius."""
    for r in range(rows.size):
        start, length = 0, lengths[rows[r]]
        row = distances[rows[r]]
        while length > 0:
            half = length >> 1
            if row[start + half] * ratio < epsilon[r]:
                start += half + 1
                length -= half + 1
            else:
                length = half
        counts[r] = start


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


# ------------------------------------------------------------------------------------- targets on a line


@_compiled
def _nearer_on_line(line, position, epsilon):
    """Number of sorted values at a float32 distance below epsilon from the one at a position, itself not counted."""
    value = line[position]
    farther, length = 0, position
    while length > 0:
        half = (length + 1) >> 1
        farther += half * (np.float32(value - line[farther + half - 1]) >= epsilon)
        length -= half
    above = line[position + 1 :]
    nearer, length = 0, above.size
    while length > 0:
        half = (length + 1) >> 1
        nearer += half * (np.float32(above[nearer + half - 1] - value) < epsilon)
        length -= half
    return position - farther + nearer


@_compiled
def scan_scalar(
    indices, distances, lengths, radii, atoms, targets, positions, line, line_atoms, psi, k,
    start, stop, local, sums, pending,
):  # fmt: skip
    """KSG for rows start to stop against permuted values on a line.

    Args:
        indices, distances, lengths, radii: neighbour table.
        atoms: (n,) number of samples that coincide with each, itself included.
        targets: (P, n) permuted target values.
        positions: (P, n) positions of those values in ``line``.
        line: (n,) sorted target values.
        line_atoms: (n,) number of equal values at each position.
        psi: digamma of 0 to n.
        k: number of neighbours.
        start, stop: rows.
        local: (n,) written for the first permutation: psi(k) - psi(n_x + 1) - psi(n_y + 1).
        sums: (P,) the same, summed over the finished rows.
        pending: (P, n) written: the radius found for an unfinished row, -1 for a finished one.
    """
    best = np.empty(k, np.float32)
    for p in range(targets.shape[0]):
        target = targets[p]
        total = 0.0
        for i in range(start, stop):
            value = target[i]
            best[:] = INF
            kth = INF
            length = lengths[i]
            row, row_indices = distances[i, :length], indices[i, :length]
            c = length
            for at in range(length):
                if row[at] >= kth:
                    c = at
                    break
                radius = max(row[at], np.float32(abs(target[row_indices[at]] - value)))
                if radius < kth:
                    _insert(best, radius)
                    kth = best[k - 1]
            if (c == length and kth > radii[i]) or (kth == 0 and atoms[i] > length):
                pending[p, i] = kth
                continue
            pending[p, i] = -1
            position = positions[p, i]
            if kth == 0:
                joint = 1
                for c in range(length):
                    if distances[i, c] > 0:
                        break
                    joint += target[indices[i, c]] == value
                term = psi[joint] - psi[atoms[i]] - psi[line_atoms[position]]
            else:
                while c > 0 and distances[i, c - 1] >= kth:
                    c -= 1
                term = psi[k] - psi[c + 1] - psi[_nearer_on_line(line, position, kth) + 1]
            total += term
            if p == 0:
                local[i] = term
        sums[p] = total


@_compiled
def complete_scalar(x, metric, which, rows, bounds, positions, line, samples, k, epsilon, nearer, joint):
    """Finish rows whose k-th neighbour lies beyond the table, by walking outwards on the target's line.

    Args:
        x: (n, d) values behind the table.
        metric: EUCLIDEAN or CHEBYSHEV.
        which, rows: (r,) permutation and sample.
        bounds: (r,) upper bounds on the radius.
        positions: (P, n) position on the line of each sample's permuted target.
        line: (n,) sorted target values.
        samples: (P, n) the sample at each position.
        k: number of neighbours.
        epsilon, nearer, joint: (r,) written: the radius, the number of targets strictly nearer, and, for a radius of
            zero, the number of samples that coincide on both sides, itself included.
    """
    n = line.size
    best = np.empty(k, np.float32)
    for r in range(rows.size):
        i = rows[r]
        position = positions[which[r], i]
        at_position = samples[which[r]]
        value = line[position]
        best[:] = np.nextafter(bounds[r], INF)
        below, above = position - 1, position + 1
        while below >= 0 or above < n:
            dy_below = np.float32(value - line[below]) if below >= 0 else INF
            dy_above = np.float32(line[above] - value) if above < n else INF
            if dy_below <= dy_above:
                dy, j = dy_below, at_position[below]
                below -= 1
            else:
                dy, j = dy_above, at_position[above]
                above += 1
            if dy >= best[k - 1]:
                break
            radius = max(dy, _distance(x, i, x, j, metric))
            if radius < best[k - 1]:
                _insert(best, radius)
        kth = best[k - 1]
        coincident = 1
        if kth == 0:
            for side in (-1, 1):
                at = position + side
                while 0 <= at < n and np.float32(abs(line[at] - value)) == 0:
                    coincident += _distance(x, i, x, at_position[at], metric) == 0
                    at += side
        epsilon[r] = kth
        nearer[r] = _nearer_on_line(line, position, kth)
        joint[r] = coincident


# ------------------------------------------------------------------------------------------ class labels


@_compiled
def scan_labels(
    indices, distances, lengths, radii, atoms, labels, sizes, psi, k, start, stop, local, sums, pending
):  # fmt: skip
    """Ross (2014) for rows start to stop against permuted class labels; arguments as for ``scan_scalar``.

    Args:
        labels: (P, n) permuted class codes.
        sizes: (classes,) members of each class, at least 2.
    """
    for p in range(labels.shape[0]):
        label = labels[p]
        total = 0.0
        for i in range(start, stop):
            own = label[i]
            size = sizes[own]
            wanted = min(k, size - 1)
            found = 0
            length = lengths[i]
            row_indices = indices[i, :length]
            c = length
            for at in range(length):
                found += label[row_indices[at]] == own
                if found == wanted:
                    c = at
                    break
            if c == length:
                pending[p, i] = INF
                continue
            kth = distances[i, c]
            if kth > radii[i] or (kth == 0 and atoms[i] > length):
                pending[p, i] = INF
                continue
            pending[p, i] = -1
            if kth == 0:
                joint = 1
                for c in range(length):
                    if distances[i, c] > 0:
                        break
                    joint += label[indices[i, c]] == own
                term = psi[joint] - psi[atoms[i]] - psi[size]
            else:
                while c > 0 and distances[i, c - 1] >= kth:
                    c -= 1
                term = psi[wanted] - psi[c + 1] - psi[size]
            total += term
            if p == 0:
                local[i] = term
        sums[p] = total


@_compiled
def complete_labels(x, metric, which, rows, labels, members, starts, k, epsilon, joint):
    """Finish rows whose k-th neighbour of the same class lies beyond the table, by visiting the class.

    Args:
        x: (n, d) values behind the table.
        metric: EUCLIDEAN or CHEBYSHEV.
        which, rows: (r,) permutation and sample.
        labels: (P, n) permuted class codes.
        members: (P, n) samples in order of their permuted class; class c holds ``members[p, starts[c]:starts[c + 1]]``.
        starts: (classes + 1,) see ``members``.
        k: number of neighbours.
        epsilon, joint: (r,) written: the radius, and the number of coincident samples of the class, itself included.
    """
    best = np.empty(k, np.float32)
    for r in range(rows.size):
        i = rows[r]
        label = labels[which[r], i]
        first, last = starts[label], starts[label + 1]
        best[:] = INF
        coincident = 0
        for m in range(first, last):
            j = members[which[r], m]
            radius = _distance(x, i, x, j, metric)
            coincident += radius == 0
            if j != i and radius < best[k - 1]:
                _insert(best, radius)
        epsilon[r] = best[min(k, last - first - 1) - 1]
        joint[r] = coincident


# ------------------------------------------------------------------------------------- targets with a table


@_compiled
def scan_table(
    indices, distances, lengths, radii, atoms,
    y_indices, y_distances, y_lengths, y_radii, y_atoms,
    ratio, permutations, inverses, psi, k, start, stop, scratch, local, sums, pending,
):  # fmt: skip
    """KSG for rows start to stop by intersecting each row with the permuted partner's row of the target's table.

    Args:
        ratio: unit of the table over unit of the target's: turns the target's distances into the table's.
        permutations, inverses: (P, n) which target goes with a sample, and which sample with a target.
        scratch: (n,) of infinities, left as it was found: the distances of the row at hand.
    """
    best = np.empty(k, np.float32)
    for p in range(sums.size):
        sums[p] = 0.0
    for i in range(start, stop):
        length = lengths[i]
        for c in range(length):
            scratch[indices[i, c]] = distances[i, c]
        for p in range(permutations.shape[0]):
            partner = permutations[p, i]
            inverse = inverses[p]
            best[:] = INF
            kth = INF
            y_length = y_lengths[partner]
            y_row, y_row_indices = y_distances[partner, :y_length], y_indices[partner, :y_length]
            c = y_length
            for at in range(y_length):
                dy = y_row[at] * ratio
                if dy >= kth:
                    c = at
                    break
                radius = max(dy, scratch[inverse[y_row_indices[at]]])
                if radius < kth:
                    _insert(best, radius)
                    kth = best[k - 1]
            if kth > radii[i] or (c == y_length and kth > y_radii[partner] * ratio):
                pending[p, i] = kth
                continue
            pending[p, i] = -1
            if kth == 0:
                if atoms[i] > length or y_atoms[partner] > y_length:
                    pending[p, i] = kth
                    continue
                joint = 1
                for c in range(y_length):
                    if y_distances[partner, c] > 0:
                        break
                    joint += scratch[inverse[y_indices[partner, c]]] == 0
                term = psi[joint] - psi[atoms[i]] - psi[y_atoms[partner]]
            else:
                while c > 0 and y_distances[partner, c - 1] * ratio >= kth:
                    c -= 1
                term = psi[k] - psi[_lower_bound(distances[i], length, kth) + 1] - psi[c + 1]
            sums[p] += term
            if p == 0:
                local[i] = term
        for c in range(length):
            scratch[indices[i, c]] = INF


@_compiled
def complete_table(
    x, x_metric, indices, distances, lengths, radii,
    y, y_metric, y_indices, y_distances, y_lengths, y_radii,
    ratio, permutations, inverses, which, rows, bounds, k, epsilon, joint,
):  # fmt: skip
    """Finish rows whose k-th neighbour lies beyond one of the tables; arguments as for the other kernels.

    A candidate within the bound is listed on at least one side unless the bound passes both radii. So the listed ones are
    walked with the other side's distance computed, each counted on one side only; past both radii all are tried.
    """
    n = x.shape[0]
    best = np.empty(k, np.float32)
    for r in range(rows.size):
        i = rows[r]
        permutation, inverse = permutations[which[r]], inverses[which[r]]
        partner = permutation[i]
        beyond = np.nextafter(bounds[r], INF)
        best[:] = beyond
        if bounds[r] == 0 or (beyond > radii[i] and beyond > y_radii[partner] * ratio):
            coincident = 1
            for j in range(n):
                if j == i:
                    continue
                dx = _distance(x, i, x, j, x_metric)
                if dx < best[k - 1] or dx == 0:
                    radius = max(dx, _distance(y, partner, y, permutation[j], y_metric) * ratio)
                    coincident += radius == 0
                    if radius < best[k - 1]:
                        _insert(best, radius)
        else:
            coincident = 1
            # Rows list every sample nearer than their radius: those are counted on the x side, the rest on the y side.
            for c in range(lengths[i]):
                dx = distances[i, c]
                if dx >= best[k - 1] or dx >= radii[i]:
                    break
                radius = max(dx, _distance(y, partner, y, permutation[indices[i, c]], y_metric) * ratio)
                coincident += radius == 0
                if radius < best[k - 1]:
                    _insert(best, radius)
            if best[k - 1] > radii[i]:
                for c in range(y_lengths[partner]):
                    dy = y_distances[partner, c] * ratio
                    if dy >= best[k - 1]:
                        break
                    dx = _distance(x, i, x, inverse[y_indices[partner, c]], x_metric)
                    if dx >= radii[i] and max(dx, dy) < best[k - 1]:
                        _insert(best, max(dx, dy))
        epsilon[r] = best[k - 1]
        joint[r] = coincident
