"""Reading neighbour tables: the radius and the counts of every row, under every permutation.

Counts follow Kraskov et al. (2004, doi:10.1103/PhysRevE.69.066138, eq. 8): neighbours strictly nearer than the k-th,
plus one. Where the k-th neighbour is at distance zero on both sides they follow Gao et al. (2017, arXiv:1709.06212):
all coincident samples, the sample itself included, and the number of joint ones in place of k.

Each scan takes rows start to stop through a batch of P permutations and writes

    sums      (P,) sum over the finished rows of psi(k) - psi(n_x + 1) - psi(n_y + 1);
    local     (n,) the terms of the first permutation;
    radii_out (P, n) -1 for a finished row; the radius of one whose k-th neighbour lies beyond a table, so that the
              neighbours within the radius are still to be counted;
    y_counts  (P, n) n_y + 1 of such a row, 0 if that is to be counted as well.

``scratch`` is (n,) of infinities and left as it was found: it holds the distances of the row at hand. ``first`` names
the first of the samples that coincide with each, so that two samples coincide if it is the same.
"""

from __future__ import annotations

import numpy as np

from mi_callback.estimation.kernels.basics import (
    INF,
    compiled,
    distance,
    insert,
    lower_bound,
    lower_bound_scaled,
)

__all__ = ["scan_labels", "scan_scalar", "scan_table"]


@compiled
def _within_line(line, position, below, above, epsilon):
    """Number of sorted values, the one at a position included, at a float32 distance below epsilon, walking inwards."""
    value = line[position]
    while below + 1 < position and np.float32(value - line[below + 1]) >= epsilon:
        below += 1
    while above - 1 > position and np.float32(line[above - 1] - value) >= epsilon:
        above -= 1
    return above - below - 1


@compiled
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
                dx = distance(x, i, x, samples[below], metric)
            radius = max(dy, dx)
            if radius < kth:
                insert(best, radius)
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
                dx = distance(x, i, x, samples[above], metric)
            radius = max(dy, dx)
            if radius < kth:
                insert(best, radius)
                kth = best[best.size - 1]
            above += 1
        walking |= above == end and above < n
    return below, above


@compiled
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
                term = psi[k] - psi[lower_bound(row, row.size, kth) + 1] - psi[y_count]
            radii_out[p, i] = -1
            sums[p] += term
            if p == 0:
                local[i] = term
        for c in range(row.size):
            scratch[row_indices[c]] = INF


@compiled
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
                        radius = distance(x, i, x, own_members[m], metric)
                        if radius < best[k - 1]:
                            insert(best, radius)
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


@compiled
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
                dx = distance(x, i, x, j, metric)
            if max(dx, dy) < best[k - 1]:
                insert(best, max(dx, dy))
    elif bound <= radius_x:
        for at in range(row.size):
            if row[at] >= best[k - 1]:
                break
            radius = max(row[at], distance(y, partner, y, permutation[row_indices[at]], y_metric) * ratio)
            if radius < best[k - 1]:
                insert(best, radius)
    else:
        for j in range(x.shape[0]):
            dx = scratch[j]
            if j == i or (dx != INF and dx >= best[k - 1]):
                continue
            dy = distance(y, partner, y, permutation[j], y_metric) * ratio
            if dy < best[k - 1]:
                radius = max(dy, distance(x, i, x, j, metric))
                if radius < best[k - 1]:
                    insert(best, radius)


@compiled
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
                    insert(best, radius)
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
                    y_count = lower_bound_scaled(y_row, y_length, ratio, kth) + 1
                if kth > radii[i] or y_count == 0:
                    radii_out[p, i] = kth
                    y_counts[p, i] = y_count
                    continue
                term = psi[k] - psi[lower_bound(row, row.size, kth) + 1] - psi[y_count]
            radii_out[p, i] = -1
            sums[p] += term
            if p == 0:
                local[i] = term
        for c in range(row.size):
            scratch[row_indices[c]] = INF
